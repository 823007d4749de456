"""The tenants, and the host names by which a request finds its own."""

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Customer(TenantMixin):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "tenants"


class Domain(DomainMixin):
    class Meta:
        app_label = "tenants"
