"""Accounts, bookings and categories: the data that the demo site queries."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_prometheus.models import ExportModelOperationsMixin


class Category(ExportModelOperationsMixin("category"), models.Model):  # type: ignore[misc]
    """The purpose or source of a booking."""

    name = models.CharField(max_length=50, unique=True)

    class Meta:
        verbose_name_plural = _("categories")

    def __str__(self) -> str:
        return self.name


class Account(ExportModelOperationsMixin("account"), models.Model):  # type: ignore[misc]
    """An account in one currency."""

    class Currency(models.TextChoices):
        EUR = "EUR", _("euro")
        USD = "USD", _("US dollar")
        GBP = "GBP", _("pound sterling")

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="accounts")
    iban = models.CharField(_("IBAN"), max_length=34, unique=True)
    currency = models.CharField(max_length=3, choices=Currency, default=Currency.EUR)

    def __str__(self) -> str:
        return self.iban


class Transaction(ExportModelOperationsMixin("transaction"), models.Model):  # type: ignore[misc]
    """One booking on an account."""

    class Type(models.TextChoices):
        DEPOSIT = "deposit", _("Deposit")
        WITHDRAWAL = "withdrawal", _("Withdrawal")
        TRANSFER = "transfer", _("Transfer")
        PAYMENT = "payment", _("Payment")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        help_text=_("User who ordered it; not always the account's owner."),
    )
    account = models.ForeignKey(Account, models.PROTECT)
    category = models.ForeignKey(Category, models.PROTECT)
    type = models.CharField(max_length=10, choices=Type)
    amount = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        help_text=_("In the account's currency, always positive; the type gives the direction."),
    )
    timestamp = models.DateTimeField(help_text=_("Time of the booking."))
    description = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [
            # For the list and the admin: newest first, filtered by time.
            models.Index(fields=["timestamp"], name="transaction_timestamp"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="transaction_amount_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.amount} on {self.timestamp:%Y-%m-%d}"
