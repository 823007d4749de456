"""Show the bookings in Django's admin; each page of a list needs one query for its rows."""

from django.contrib import admin

from transactions.models import Account, Category, Transaction


@admin.register(Transaction)
class TransactionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ("timestamp", "type", "amount", "currency", "account", "category", "user", "description")
    list_select_related = ("account", "category", "user")
    list_filter = ("type", "category", "account__currency")
    date_hierarchy = "timestamp"
    ordering = ("-timestamp", "-pk")
    search_fields = ("description", "account__iban", "user__username")
    raw_id_fields = ("account", "user")
    # Without a second COUNT over the whole table.
    show_full_result_count = False

    @admin.display(ordering="account__currency")
    def currency(self, transaction: Transaction) -> str:
        return transaction.account.currency


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ("iban", "currency", "owner")
    list_select_related = ("owner",)
    list_filter = ("currency",)
    ordering = ("iban",)
    search_fields = ("iban", "owner__username")
    raw_id_fields = ("owner",)


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ("name",)
    ordering = ("name",)
    search_fields = ("name",)
