"""Connections that are opened for each query, and many that are not."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import wraps
from threading import Thread

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection, connections, transaction
from django.db.models import F
from django.db.models.signals import post_save
from django.http import HttpResponse, JsonResponse

from sqllogs import unit_of_work
from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import examples_of

bad, good = examples_of("connection_per_query")


@bad(unit="task", also=("n_plus_one",))
def closed_after_each_item(request):
    names = []
    for pk in range(1, 7):
        names.append(Author.objects.get(pk=pk).name)
        connection.close()
    return names


@bad(also=("n_plus_one",))
def thread_for_each_query(request):
    def title(pk):
        return Book.objects.get(pk=pk).title

    with ThreadPoolExecutor(max_workers=6) as pool:
        titles = [pool.submit(copy_context().run, in_thread, title, pk) for pk in range(1, 7)]
    return JsonResponse({"titles": [one.result() for one in titles]})


def in_thread(work, *arguments):
    """What a library does so that no connection stays behind in a thread."""
    try:
        time.sleep(0.05)  # so that each thread gets one
        return work(*arguments)
    finally:
        connections.close_all()


@bad(unit="command", also=("n_plus_one",))
def old_connections_closed_in_the_loop(request):
    for pk in range(1, 8):
        close_old_connections()
        Post.objects.filter(pk=pk).update(name=F("name"))


@bad(also=("n_plus_one",))
async def gathered_without_the_main_thread(request):
    @sync_to_async(thread_sensitive=False)
    def name(pk):
        return in_thread(lambda: Publisher.objects.get(pk=pk).name)

    names = await asyncio.gather(*(name(pk) for pk in range(1, 7)))
    return JsonResponse({"names": names})


@bad(unit="task", also=("n_plus_one",))
def all_closed_for_each_tenant(request):
    for pk in range(1, 7):
        Country.objects.filter(pk=pk).exists()
        connections.close_all()


def with_a_fresh_connection(function):
    @wraps(function)
    def call(*arguments):
        connection.close()
        return function(*arguments)

    return call


@bad(also=("n_plus_one",))
def decorated_service(request):
    @with_a_fresh_connection
    def number_of_books(author):
        return author.books.count()

    authors = [Author(pk=pk) for pk in range(1, 7)]
    return JsonResponse({str(author.pk): number_of_books(author) for author in authors})


@bad(unit="task", also=("n_plus_one",))
def closed_by_a_signal(request):
    def close(**arguments):
        connection.close()

    post_save.connect(close, sender=Tag)
    try:
        for number in range(6):
            Tag.objects.create(name=f"tagged {number}")
    finally:
        post_save.disconnect(close, sender=Tag)


@contextmanager
def short_lived_connection():
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()


@bad(unit="command")
def connected_for_each_statement(request):
    for table in ("shelf_book", "shelf_author", "shelf_tag", "shelf_post", "shelf_note"):
        with short_lived_connection() as one, one.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {table}")


@bad(also=("n_plus_one",))
def plain_threads(request):
    threads = [
        Thread(target=copy_context().run, args=(in_thread, Note.objects.filter(pk=pk).exists))
        for pk in range(1, 7)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return HttpResponse()


@bad(unit="task", also=("n_plus_one",))
def retried_with_a_new_connection(request):
    def asked(pk):
        for _ in range(2):
            try:
                return Tag.objects.get(pk=pk)
            except Tag.DoesNotExist:
                connection.close()  # "it might be stale"
        return None

    return [asked(pk) for pk in (-1, -2, -3, -4, -5, -6)]


@bad(also=("n_plus_one",))
def transaction_and_a_new_connection_each(request):
    for pk in range(1, 7):
        with transaction.atomic():
            Book.objects.filter(pk=pk).update(price=F("price"))
        connection.close()
    return HttpResponse()


@good(also=("n_plus_one",))
def one_connection_for_many(request):
    return JsonResponse({str(pk): Book.objects.get(pk=pk).title for pk in range(1, 9)})


@good(unit="task")
def four_connections(request):
    for pk in range(1, 5):
        Author.objects.get(pk=pk)
        connection.close()


@good(unit="command", also=("n_plus_one", "same_values"))
def connection_for_each_batch(request):
    for start in range(1, 7):
        for pk in range(start, start + 8):
            Book.objects.get(pk=pk)
        connection.close()


@good(also=("n_plus_one",))
def few_threads_for_many_queries(request):
    def titles(first):
        return [Book.objects.get(pk=pk).title for pk in range(first, first + 5)]

    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = [pool.submit(copy_context().run, in_thread, titles, first) for first in (1, 6, 11, 16)]
    return JsonResponse({"titles": [one.result() for one in futures]})


@good(also=("n_plus_one",))
def reconnected_once(request):
    Post.objects.count()
    connection.close()
    return JsonResponse({str(pk): Post.objects.get(pk=pk).name for pk in range(1, 8)})


@good(also=("n_plus_one",))
async def gathered_in_the_main_thread(request):
    names = await asyncio.gather(*(Publisher.objects.aget(pk=pk) for pk in range(1, 8)))
    return JsonResponse({"names": [one.name for one in names]})


@good(unit="command")
def connection_for_each_task(request):
    for pk in range(1, 8):
        with unit_of_work("task", "send"):
            Author.objects.get(pk=pk)
            connection.close()


@good(unit="command", also=("n_plus_one",))
def old_connections_kept(request):
    connection.settings_dict["CONN_MAX_AGE"] = 60
    connection.close()
    try:
        for pk in range(1, 9):
            close_old_connections()
            Post.objects.get(pk=pk % 7 + 1)
    finally:
        connection.settings_dict["CONN_MAX_AGE"] = 0


@good(also=("n_plus_one",))
def connection_ensured_before_each(request):
    for pk in range(1, 8):
        connection.ensure_connection()
        Tag.objects.get(pk=pk)
    return HttpResponse()


@good(also=("n_plus_one",))
def transactions_of_one_connection(request):
    for pk in range(1, 8):
        with transaction.atomic():
            Book.objects.filter(pk=pk).update(price=F("price"))
    return HttpResponse()
