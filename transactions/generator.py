"""Generate bookings: the same seed gives the same bookings on every machine and database.

Called by `manage.py generate_transactions`; writes by bulk_create in the caller's thread.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from django.contrib.auth.models import User

from transactions.models import Account, Category, Transaction

CUSTOMERS = 25
ACCOUNTS_PER_CUSTOMER = 2
"""Each in another currency, so at most three."""
CATEGORIES = ("food", "gifts", "health", "housing", "leisure", "salary", "transport", "travel")
BATCH_ROWS = 1_000
YEAR_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""A fixed year, because a seed must give the same bookings tomorrow."""
YEAR_S = 365 * 24 * 3600


def generate(count: int, seed: int) -> Iterator[int]:
    """Write `count` bookings in batches, and yield the number written after each."""
    accounts, categories = _accounts(), _categories()
    rng = Random(seed)  # noqa: S311 (nothing here is a secret)
    for start in range(0, count, BATCH_ROWS):
        stop = min(start + BATCH_ROWS, count)
        Transaction.objects.bulk_create(_booking(rng, accounts, categories) for _ in range(start, stop))
        yield stop


def _booking(rng: Random, accounts: list[Account], categories: list[Category]) -> Transaction:
    account, category = rng.choice(accounts), rng.choice(categories)
    # One booking in ten is ordered by another user than the account's owner.
    orderer = rng.choice(accounts) if rng.random() < 0.1 else account
    return Transaction(
        user_id=orderer.owner_id,
        account=account,
        category=category,
        type=rng.choice(Transaction.Type.values),
        amount=Decimal(rng.randrange(100, 250_000)) / 100,
        timestamp=YEAR_BEGIN + timedelta(seconds=rng.randrange(YEAR_S)),
        description=f"{category.name} {rng.randrange(10**6):06d}",
    )


def _accounts() -> list[Account]:
    """Return the accounts; create those that do not exist, so that the command can run again."""
    names = [f"customer{number:02d}" for number in range(1, CUSTOMERS + 1)]
    # "!" marks an unusable password in Django, so these users cannot log in.
    customers = [User(username=name, password="!") for name in names]  # noqa: S106
    User.objects.bulk_create(customers, ignore_conflicts=True)
    owners = User.objects.filter(username__in=names).order_by("username")
    currencies = Account.Currency.values[:ACCOUNTS_PER_CUSTOMER]
    accounts = [
        Account(owner=owner, iban=f"XX00DEMO{number:04d}{index:04d}", currency=currency)
        for number, owner in enumerate(owners)
        for index, currency in enumerate(currencies)
    ]
    Account.objects.bulk_create(accounts, ignore_conflicts=True)
    return list(Account.objects.filter(iban__in=[account.iban for account in accounts]).order_by("iban"))


def _categories() -> list[Category]:
    Category.objects.bulk_create((Category(name=name) for name in CATEGORIES), ignore_conflicts=True)
    return list(Category.objects.filter(name__in=CATEGORIES).order_by("name"))
