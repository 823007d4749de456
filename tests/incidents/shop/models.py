"""Customers with orders, and the stock that orders are taken from."""

from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


class Order(models.Model):
    # Release 1.4.2 has dropped the index: "nobody uses it".
    customer = models.ForeignKey(Customer, models.CASCADE, db_index=False)
    amount = models.IntegerField()

    def __str__(self):
        return str(self.amount)


class Stock(models.Model):
    left = models.IntegerField()

    def __str__(self):
        return str(self.left)
