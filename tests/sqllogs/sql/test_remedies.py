"""Each loop gets the advice of its corpus; with the advice followed it returns the same from few queries."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from sqllogs.sql.n_plus_one import SeenStatement
from sqllogs.sql.remedies import Remedies
from tests.sqllogs import advice_clinic, advice_models, advice_yard
from tests.sqllogs import advice_clinic_loops as _unseen_loops  # noqa: F401
from tests.sqllogs import advice_yard_loops as _more_loops  # noqa: F401
from tests.sqllogs.advice_loops import LOOPS, UNSURE
from tests.sqllogs.advice_models import THROUGH
from tests.sqllogs.advice_yard import Assignment, Project, Restaurant, Worker
from tests.sqllogs.advising import QUERIES_MAX, captured, inserting, named, remedies, rows, undone

LOOPS_MIN = 320
MODELS = (*advice_models.MODELS, *advice_yard.MODELS, *advice_clinic.MODELS)


@pytest.fixture(scope="module")
def shelf(django_db_setup, django_db_blocker):
    """The models of the loops with rows, known to the registry."""
    with django_db_blocker.unblock():
        with pytest.MonkeyPatch.context() as patch:
            known = apps.get_models(include_auto_created=True)
            made = (*apps.all_models["yard"].values(), *apps.all_models["clinic"].values())
            others = [THROUGH, *(one for one in made if one._meta.proxy or one._meta.auto_created)]
            patch.setattr(apps, "get_models", lambda **options: [*known, *MODELS, *others])
            _forget_relations()
            with connection.schema_editor() as editor:
                for model in MODELS:
                    editor.create_model(model)
            advice_models.populate()
            advice_yard.populate()
            advice_clinic.populate()
            yield
            with connection.schema_editor() as editor:
                for model in reversed(MODELS):
                    editor.delete_model(model)
        # Last, so that no row refers to these, and nobody looks for one in a table of ours.
        _forget_relations()
        Group.objects.all().delete()
        advice_yard.clear()
        advice_clinic.clear()
        ContentType.objects.filter(app_label="shelf").delete()
        ContentType.objects.clear_cache()


def _forget_relations():
    """Let Django forget which models refer to which: it remembers what it finds first."""
    for model in apps.get_models(include_auto_created=True):
        model._meta._expire_cache()


def test_corpus_is_large():
    assert len(LOOPS) >= LOOPS_MIN


@pytest.mark.django_db
@pytest.mark.parametrize("name", LOOPS)
def test_advice_is_right_and_removes_the_loop(name, shelf):
    loop = LOOPS[name]
    connection.ensure_connection()
    ContentType.objects.clear_cache()
    with captured() as log, undone():
        before = loop.run(rows)
    found = remedies(log)
    assert len(found) == len(loop.advice), found
    got = [_as_expected(remedy, expect) for (remedy, *_), expect in zip(found, loop.advice, strict=True)]
    assert got == [*loop.advice], found
    if UNSURE in loop.advice:
        return
    run, q = loop.followed or loop.run, inserting(found, loop.fills)
    with captured() as log, undone():
        after = run(q)
    assert len(log) <= QUERIES_MAX, [query.sql for query in log.queries]
    assert after == before


def _as_expected(remedy, expect):
    if remedy is None or remedy.is_guess:
        return UNSURE
    kind, what = named(remedy)
    return kind, what if expect[1] else ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("count of=shelf.Author.books where=author slice", None),  # of some rows of each
        ("count of=shelf.Author.books where=author,price combined", None),
        ("count of=shelf.Author.books where=author values=price annotated", None),  # of groups
        ("exists of=shelf.Author.books where=author,? annotated", None),
        ("count of=shelf.Author.books where=author values=price,title distinct", None),
        ("aggregate of=shelf.Author.books where=author figures=?", "annotate(books_figure=...)"),
    ],
)
def test_figure_that_an_annotation_cannot_give_is_a_guess_or_none(asked, code, shelf):
    sql = "SELECT COUNT(*) FROM shelf_book WHERE author_id = ?"
    remedy = Remedies().remedy("SELECT", sql, [], asked_by=f"queryset shelf.Book {asked}")
    assert (remedy and remedy.code) == code
    assert remedy is None or remedy.is_guess is (code is None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("author", 'prefetch_related("books")'),
        ("author slice", 'prefetch_related("books")'),  # books.all()[0] reads what was prefetched
        ("author,price__gt", None),  # only another attribute would be read
        ("author order=price", None),
        ("author values=title", None),  # as User.has_perm(): it does not read what was prefetched
    ],
)
def test_library_gets_no_advice_that_changes_its_code(where, code, shelf):
    asked_by = f"queryset shelf.Book all of=shelf.Author.books where={where} in=vendored"
    remedy = Remedies().remedy(
        "SELECT", "SELECT * FROM shelf_book WHERE author_id = ?", [], asked_by=asked_by
    )
    assert (remedy and remedy.code) == code


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["author,price combined", "author values=price annotated"])
def test_prefetch_is_not_advised_for_unions_and_groups(where, shelf):
    asked_by = f"queryset shelf.Book all of=shelf.Author.books where={where}"
    remedy = Remedies().remedy(
        "SELECT", "SELECT 1 FROM shelf_book WHERE author_id = ?", [], asked_by=asked_by
    )
    assert remedy is None or (remedy.is_guess and remedy.code is None)


@pytest.mark.django_db
def test_relation_of_a_model_to_itself_names_the_next_level(shelf):
    seen = [
        SeenStatement(("yard_worker",), 5, None, "app.py:1 f"),
        SeenStatement(("yard_worker",), 5, "forward yard.Worker.boss one", "app.py:1 f"),
    ]
    for field, is_guess in (("boss", False), ("company", True)):
        remedy = Remedies().remedy(
            "SELECT", "SELECT 1 FROM x WHERE id = ?", [], seen,
            asked_by=f"forward yard.Worker.{field} one", call_site="app.py:2 f",
        )  # fmt: skip
        assert f'add "boss__{field}"' in remedy.advice
        assert remedy.is_guess is is_guess


@pytest.mark.django_db
def test_what_is_behind_a_generic_foreign_key_is_fetched_for_one_of_its_models(shelf):
    """The path, as in on__company, would fail for objects without such a relation."""
    plain = "generic yard.Remark.on one"
    places = [SeenStatement((table,), None, plain, "app.py:1 f") for table in ("yard_worker", "yard_crate")]
    code = 'prefetch_related(GenericPrefetch("on", [Worker.people.select_related("company")]))'
    for seen, expected in ((places, code), (places[:1], 'prefetch_related("on__company")')):
        remedy = Remedies().remedy(
            "SELECT", "SELECT 1 FROM x WHERE id = ?", ["yard_company"], seen,
            asked_by="forward yard.Worker.company one", call_site="app.py:1 f",
        )  # fmt: skip
        assert (remedy.queryset, remedy.code) == ("yard.Remark", expected)
        assert code in remedy.advice
    remedy = Remedies().remedy(
        "SELECT", "SELECT 1 FROM x WHERE id = ?", ["yard_worker"], places, asked_by=plain
    )
    assert (remedy.code, "next level" in remedy.advice) == ('prefetch_related("on")', False)


@pytest.mark.django_db
@pytest.mark.parametrize(("rows", "kind"), [(1, "ask_once"), (7, "prefetch_related")])
def test_relation_of_one_row_with_the_same_values_is_asked_for_once(rows, kind, shelf):
    seen = [SeenStatement(("yard_company",), rows, None, "app.py:1 f")]
    remedy = Remedies().remedy(
        "SELECT", "SELECT name FROM yard_worker WHERE company_id = ?", ["yard_worker"], seen,
        asked_by="queryset yard.Worker all of=yard.Company.worker_set where=company values=name one same",
        call_site="app.py:2 f",
    )  # fmt: skip
    assert remedy.kind == kind


@pytest.mark.django_db
def test_choices_are_named_although_their_statement_has_no_values(shelf):
    remedy = Remedies().remedy(
        "SELECT", "SELECT name FROM yard_place", ["yard_place"], asked_by="choices yard.Place same"
    )
    assert (remedy.model, "field.choices" in remedy.advice) == ("yard.Place", True)


@pytest.mark.django_db
def test_guess_names_the_model_and_not_its_proxy(shelf):
    remedy = Remedies().remedy("UPDATE", "UPDATE yard_company SET name = ?", ["yard_company"])
    assert remedy.model == "yard.Company"


def _children():
    for number in range(7):
        Restaurant.objects.create(name=f"new {number}")


def _behind_a_subquery():
    for project in Project.objects.all():
        list(Worker.people.filter(pk__in=Assignment.objects.filter(project=project).values("worker")))


def _without_the_row_itself():
    for worker in Worker.people.filter(company__isnull=False):
        list(Worker.people.filter(company=worker.company_id).exclude(pk=worker.pk))


@pytest.mark.django_db
@pytest.mark.parametrize("run", [_children, _behind_a_subquery, _without_the_row_itself])
def test_no_advice_is_given_that_does_not_fit(run, shelf):
    with captured() as log, undone():
        run()
    found = remedies(log)
    assert found
    assert [one for one in found if one.remedy is not None] == []
