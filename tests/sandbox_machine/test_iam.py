from __future__ import annotations

import time

import pytest

from sandbox.iam.policy import Policy, UnmodelledPolicyError, bucket_resource, operator_email
from sandbox.iam.tokens import LIFETIME_S, Tokens
from sandbox.store import RESOURCE
from tests.sandbox_machine.machines import ACCOUNT, World, settings_for

READ = {"storage.objects.get", "storage.objects.list"}
CREATE = {"storage.objects.create"}
CHANGE = {"storage.objects.delete", "storage.objects.update"}
ALL = READ | CREATE | CHANGE


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        ("roles/storage.objectViewer", READ),
        ("roles/storage.objectCreator", CREATE),
        ("roles/storage.objectUser", ALL),
        ("roles/storage.objectAdmin", ALL),
        ("roles/storage.admin", ALL),
        ("roles/storage.legacyObjectReader", {"storage.objects.get"}),
        ("roles/monitoring.metricWriter", set()),
        ("roles/owner", ALL),
    ],
)
def test_role_grants_exactly_its_permissions(world: World, role: str, granted: set[str]) -> None:
    world.bind("models", role)
    policy = Policy(world.settings, world.store)
    assert {one for one in ALL if policy.allowed(ACCOUNT, one, bucket_resource("models"))} == granted


def test_bucket_binding_holds_for_its_bucket_and_its_member_alone(world: World) -> None:
    world.bind("models", "roles/storage.objectViewer")
    policy = Policy(world.settings, world.store)
    assert policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("models"))
    assert not policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("other"))
    assert not policy.allowed(f"x{ACCOUNT}", "storage.objects.get", bucket_resource("models"))
    assert not policy.allowed(ACCOUNT, "storage.objects.get", f"projects/{world.settings.project}")
    assert not policy.allowed("", "storage.objects.get", bucket_resource("models"))


def test_project_binding_holds_for_the_project_by_id_and_number_and_for_its_buckets(world: World) -> None:
    world.bind_project("roles/monitoring.metricWriter")
    world.bind_project("roles/storage.objectViewer")
    policy = Policy(world.settings, world.store)
    for project in (world.settings.project, world.settings.project_number):
        assert policy.allowed(ACCOUNT, "monitoring.timeSeries.create", f"projects/{project}")
    assert not policy.allowed(ACCOUNT, "monitoring.timeSeries.create", "projects/another")
    assert policy.allowed(ACCOUNT, "storage.objects.list", bucket_resource("models"))


def test_removed_binding_grants_nothing(world: World) -> None:
    world.bind("models", "roles/storage.objectViewer")
    policy = Policy(world.settings, world.store)
    ((name, _),) = world.store.items(RESOURCE)
    world.store.delete(RESOURCE, name)
    assert not policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("models"))


def test_operator_may_everything(world: World) -> None:
    policy = Policy(world.settings, world.store)
    assert policy.allowed(
        operator_email(world.settings), "storage.buckets.create", f"projects/{world.settings.project}"
    )


@pytest.mark.parametrize(
    ("member", "who"), [("allUsers", ""), ("allUsers", ACCOUNT), ("allAuthenticatedUsers", ACCOUNT)]
)
def test_everybody_is_a_member(world: World, member: str, who: str) -> None:
    world.bind("public", "roles/storage.objectViewer", member)
    assert Policy(world.settings, world.store).allowed(who, "storage.objects.get", bucket_resource("public"))


def test_nobody_is_not_authenticated(world: World) -> None:
    world.bind("public", "roles/storage.objectViewer", "allAuthenticatedUsers")
    assert not Policy(world.settings, world.store).allowed("", "storage.objects.get", bucket_resource("public"))


def test_binding_takes_effect_after_the_delay(world: World) -> None:
    policy = Policy(settings_for(world.settings.state, world.settings.block, iam_delay_s=30.0), world.store)
    world.bind("new", "roles/storage.objectViewer", age_s=29.0)
    world.bind("old", "roles/storage.objectViewer", age_s=31.0)
    assert not policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("new"))
    assert policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("old"))


def test_unknown_role_is_an_error_that_names_it_where_it_matters(world: World) -> None:
    world.bind("models", "roles/storage.superHero")
    policy = Policy(world.settings, world.store)
    with pytest.raises(UnmodelledPolicyError, match=r"roles/storage\.superHero"):
        policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("models"))
    assert not policy.allowed(ACCOUNT, "storage.objects.get", bucket_resource("other"))


def test_condition_is_an_error_and_not_ignored(world: World) -> None:
    world.bind("models", "roles/storage.objectViewer")
    ((name, record),) = world.store.items(RESOURCE)
    record["inputs"]["condition"] = {"title": "office hours", "expression": "false"}
    world.store.put(RESOURCE, name, record)
    with pytest.raises(UnmodelledPolicyError, match="condition"):
        Policy(world.settings, world.store).allowed(ACCOUNT, "storage.objects.get", bucket_resource("models"))


def test_token_stands_for_its_account_until_it_expires(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(world.store)
    token = tokens.issue(ACCOUNT)
    assert tokens.email_of(token) == ACCOUNT
    assert tokens.email_of(f"{token}x") is None
    later = time.time() + LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert tokens.email_of(token) is None


def test_token_is_not_kept_in_clear(world: World) -> None:
    token = Tokens(world.store).issue(ACCOUNT)
    path = world.settings.state / "store.db"
    assert not [file for file in path.parent.glob("store.db*") if token.encode() in file.read_bytes()]


def test_expired_tokens_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(world.store)
    tokens.issue(ACCOUNT)
    later = time.time() + LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    tokens.issue(ACCOUNT)
    assert len(list(world.store.items("token"))) == 1
