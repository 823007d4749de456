"""Calls of other services in and beside transactions."""

import http.client
import os
import urllib.request
import xmlrpc.client
from contextlib import suppress

import requests
import urllib3
from asgiref.sync import sync_to_async
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.db.models.signals import post_save
from django.http import HttpResponse

from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import examples_of

bad, good = examples_of("outside_call")
SERVICE = {"url": "", "port": 0}
"""Where a service answers within 50 ms."""


def notify(name):
    requests.post(SERVICE["url"], json={"name": name}, timeout=10)


@bad()
def webhook_in_a_transaction(request):
    with transaction.atomic():
        post = Post.objects.create(name="posted")
        notify(post.name)
    return HttpResponse()


@bad()
@transaction.atomic
def session_in_an_atomic_view(request):
    country = Country.objects.get(pk=1)
    with requests.Session() as session:
        session.get(SERVICE["url"], params={"country": country.name}, timeout=10)
    return HttpResponse()


@bad(unit="task")
def standard_library(request):
    with transaction.atomic():
        Book.objects.filter(pk=1).update(price=F("price"))
        with urllib.request.urlopen(SERVICE["url"], timeout=10) as answer:
            answer.read()


@bad(unit="command")
def pool_of_connections(request):
    pool = urllib3.PoolManager(retries=False)
    with transaction.atomic():
        for book in Book.objects.filter(pk__lt=3):
            pool.request("GET", SERVICE["url"], fields={"title": book.title})
    pool.clear()


@bad()
def low_level_client(request):
    client = http.client.HTTPConnection("127.0.0.1", SERVICE["port"], timeout=10)
    with transaction.atomic():
        Tag.objects.filter(pk=1).update(name=F("name"))
        client.request("GET", "/rates")
        client.getresponse().read()
    client.close()
    return HttpResponse()


@bad(unit="task")
def remote_procedure(request):
    with transaction.atomic(), xmlrpc.client.ServerProxy(SERVICE["url"]) as proxy:
        Note.objects.filter(text="x").exists()
        with suppress(Exception):  # the answer is not XML
            proxy.stock(1)


@bad()
def signal_that_notifies(request):
    def on_save(instance, **arguments):
        notify(instance.name)

    post_save.connect(on_save, sender=Tag)
    try:
        with transaction.atomic():
            Tag.objects.create(name="signalled")
            Tag.objects.create(name="signalled again")
    finally:
        post_save.disconnect(on_save, sender=Tag)
    return HttpResponse()


@bad()
def payment_while_locked(request):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=2)
        requests.post(SERVICE["url"], data={"amount": book.price}, timeout=10)
        book.save()
    return HttpResponse()


@bad()
def mail_in_a_transaction(request):
    with transaction.atomic():
        author = Author.objects.get(pk=1)
        send_mail("Hello", "text", "shop@example.org", [f"{author.pk}@example.org"])
    return HttpResponse()


@bad(unit="command")
def call_in_a_savepoint(request):
    with transaction.atomic():
        publisher = Publisher.objects.get(pk=1)
        with suppress(requests.RequestException), transaction.atomic():
            requests.put(SERVICE["url"], data=publisher.name, timeout=10)
            publisher.save()


@bad()
async def async_view_that_calls(request):
    @sync_to_async
    def work():
        with transaction.atomic():
            Post.objects.filter(pk=2).update(name="x")
            notify("x")

    await work()
    return HttpResponse()


@bad(unit="task")
def call_of_a_task_without_autocommit(request):
    transaction.set_autocommit(False)
    try:
        Post.objects.filter(pk=3).update(name="y")
        notify("y")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)


@good()
def called_before(request):
    notify("before")
    with transaction.atomic():
        Post.objects.filter(pk=2).update(name="known")
    return HttpResponse()


@good()
def called_after(request):
    with transaction.atomic():
        Post.objects.filter(pk=2).update(name="saved")
    notify("after")
    return HttpResponse()


@good(unit="task")
def called_on_commit(request):
    with transaction.atomic():
        post = Post.objects.get(pk=2)
        transaction.on_commit(lambda: notify(post.name))


@good()
def called_without_a_transaction(request):
    post = Post.objects.get(pk=2)
    notify(post.name)
    post.save()
    return HttpResponse()


@good(unit="command")
def outbox(request):
    with transaction.atomic():
        Post.objects.filter(pk=2).update(name="wanted")
        note = Note.objects.create(content_type_id=1, object_id=2, text="send")
    notify(note.text)
    note.delete()


@good()
def prepared_inside_and_sent_after(request):
    with transaction.atomic():
        post = Post.objects.get(pk=3)
        prepared = requests.Request("POST", SERVICE["url"], json={"name": post.name}).prepare()
    with requests.Session() as session:
        session.send(prepared, timeout=10)
    return HttpResponse()


@good()
def file_read_in_a_transaction(request):
    with transaction.atomic():
        Post.objects.filter(pk=2).update(name="file")
        with urllib.request.urlopen(f"file://{os.path.abspath(__file__)}") as file:
            file.read()
    return HttpResponse()


@good(unit="command")
def called_between_two_transactions(request):
    with transaction.atomic():
        Post.objects.filter(pk=4).update(name="reserved")
    notify("reserve")
    with transaction.atomic():
        Post.objects.filter(pk=4).update(name="paid")


@good()
def failure_reported_after_the_rollback(request):
    try:
        with transaction.atomic():
            Post.objects.filter(pk=5).update(name="never")
            raise ValueError("no stock")
    except ValueError as exc:
        notify(str(exc))
    return HttpResponse()


class Answers(requests.adapters.BaseAdapter):
    """What a test or a cache puts in place of the network."""

    def send(self, request, **options):
        response = requests.Response()
        response.status_code, response.raw, response.request = 200, None, request
        return response

    def close(self):
        pass


@good()
def answered_by_a_cache(request):
    with transaction.atomic(), requests.Session() as session:
        Post.objects.filter(pk=6).update(name="cached")
        session.mount("cache://", Answers())
        session.get("cache://rates")
    return HttpResponse()


@good()
def mail_on_commit(request):
    with transaction.atomic():
        author = Author.objects.get(pk=2)
        transaction.on_commit(lambda: send_mail("Hi", "x", "shop@example.org", [f"{author.pk}@example.org"]))
    return HttpResponse()
