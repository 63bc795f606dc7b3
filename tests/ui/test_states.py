"""What the panel says where something is missing or wrong; nothing of it gets in the way of the notebook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect
from support.lab import Lab, running_lab
from support.page import Hands


def test_with_no_notebook_open_it_asks_for_one(hands: Hands) -> None:
    hands.command("axon:toggle-panel")
    expect(hands.panel).to_have_attribute(
        "data-none", "Open a notebook to see its training record here."
    )
    expect(hands.panel.locator(".lm-AccordionPanel")).to_be_hidden()


def test_with_something_else_in_front_it_keeps_to_the_last_notebook(
    hands: Hands, recorded: str
) -> None:
    (hands.lab.root / "notes.txt").write_text("notes")
    hands.command("docmanager:open", path="notes.txt")
    expect(hands.page.locator(".jp-FileEditor")).to_be_visible()
    expect(hands.rows).to_have_count(1)
    hands.lab.checkpoint(recorded, 0, 2, metrics={"loss": 0.4})
    expect(hands.rows).to_have_count(2)


def test_a_notebook_without_a_record_gets_one_when_asked(hands: Hands, path: str) -> None:
    hands.lab.write(path, "x = 1")
    hands.open(path)
    panel = hands.open_panel()
    expect(panel).to_contain_text("no record yet")
    expect(hands.section("Checkpoints")).to_be_hidden()
    panel.get_by_role("button", name="Save and start recording").click()
    expect(panel.locator(".axon-Header")).to_contain_text("Draft")
    expect(panel).not_to_contain_text("no record yet")
    expect(panel).to_contain_text("No checkpoints yet")


def test_a_new_notebook_gets_its_record_when_it_is_saved(hands: Hands) -> None:
    hands.command("notebook:create-new", kernelName="python3")
    panel = hands.open_panel()
    hands.page.keyboard.press("Control+s")
    hands.page.locator(".jp-Dialog .jp-mod-accept").click()  # its name
    expect(panel.locator(".axon-Header")).to_contain_text("Draft")
    expect(panel).to_contain_text("No checkpoints yet")


def test_checkpoints_without_a_number_have_no_curves(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    hands.lab.checkpoint(hands.lab.record(path), 0, 1, metrics={"note": "warm-up"})
    hands.open(path)
    panel = hands.open_panel()
    expect(hands.rows).to_have_count(1)
    expect(panel).to_contain_text("No checkpoint has a metric with a number")


def test_a_record_that_is_deleted_while_open_is_made_again_by_the_next_save(
    hands: Hands, recorded: str
) -> None:
    hands.lab.rest("DELETE", f"/notebooks/{recorded}")
    expect(hands.panel).to_contain_text("no record yet")
    expect(hands.rows).to_have_count(0)
    hands.save()
    expect(hands.panel.locator(".axon-Header")).to_contain_text("Draft")
    expect(hands.panel).to_contain_text("No checkpoints yet")


def test_a_server_that_cannot_be_reached_is_a_quiet_notice(hands: Hands, recorded: str) -> None:
    hands.page.route("**/axon/**", lambda route: route.abort())
    expect(hands.panel).to_contain_text("cannot be reached")
    expect(hands.rows).to_have_count(1)
    expect(hands.page.locator(".jp-Dialog, .Toastify__toast")).to_have_count(0)
    hands.page.unroute("**/axon/**")
    expect(hands.panel).not_to_contain_text("cannot be reached", timeout=30_000)


def test_a_server_without_the_extension_is_told_from_one_without_a_record(
    hands: Hands, path: str
) -> None:
    hands.page.route(
        "**/axon/**",
        lambda route: route.fulfill(
            status=404, content_type="text/html", body="<h1>404 : Not Found</h1>"
        ),
    )
    hands.lab.write(path)
    hands.lab.record(path)
    hands.open(path)
    panel = hands.open_panel()
    expect(panel).to_contain_text("Restart the server")
    expect(panel).to_contain_text("jupyter server extension list")
    expect(hands.section("Checkpoints")).to_be_hidden()
    hands.page.unroute("**/axon/**")
    panel.get_by_role("button", name="Refresh").click()
    expect(panel).to_contain_text("No checkpoints yet")
    expect(panel).not_to_contain_text("Restart the server")


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "the record is another user's"), (500, "Unhandled error"), (503, "busy")],
)
def test_what_the_server_refuses_is_told_in_its_words_until_it_answers(
    status: int, message: str, hands: Hands, recorded: str
) -> None:
    hands.page.route(
        "**/axon/**", lambda route: route.fulfill(status=status, json={"message": message})
    )
    hands.panel.get_by_role("button", name="Refresh").click()
    expect(hands.panel).to_contain_text(f"The server could not answer: {message}")
    expect(hands.rows).to_have_count(1)
    hands.page.unroute("**/axon/**")
    hands.panel.get_by_role("button", name="Refresh").click()
    expect(hands.panel).not_to_contain_text("could not answer")


def test_a_change_that_is_refused_is_said_and_the_field_keeps_what_is_stored(
    hands: Hands, recorded: str
) -> None:
    hands.page.route(
        "**/axon/notebooks/*",
        lambda route: (
            route.fulfill(status=507, json={"message": "no space left"})
            if route.request.method == "PUT"
            else route.continue_()
        ),
    )
    field = hands.panel.get_by_label("Model", exact=True)
    field.fill("resnet-18")
    field.press("Enter")
    toast = hands.page.locator(".Toastify__toast", has_text="no space left")
    expect(toast).to_be_visible()
    expect(field).to_have_value("")
    toast.get_by_role("button", name="Hide").click()
    expect(toast).to_have_count(0)


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that comes to harm."""
    with running_lab(tmp_path_factory.mktemp("doomed")) as lab:
        yield lab


def test_a_damaged_store_and_a_server_that_is_gone_leave_the_notebook_alone(
    doomed: Lab, context: BrowserContext
) -> None:
    doomed.write("train.ipynb", "x = 1")
    doomed.checkpoint(doomed.record("train.ipynb"), 0, 1, metrics={"loss": 0.5})
    hands = Hands(context.new_page(), doomed)
    hands.arrive("train.ipynb")
    hands.open_panel()
    expect(hands.rows).to_have_count(1)
    for file in (doomed.data / "axon_notebooks").glob("axon.db*"):
        with file.open("r+b") as bytes:
            bytes.write(b"\xff" * file.stat().st_size)
    expect(hands.panel).to_contain_text("No checkpoints yet")  # in a store that is begun anew
    assert list((doomed.data / "axon_notebooks").glob("axon.db.damaged-*")) != []
    doomed.checkpoint(doomed.record("train.ipynb"), 1, 2, metrics={"loss": 0.4})
    expect(hands.rows).to_have_count(1)
    expect(hands.panel).not_to_contain_text("could not answer")
    expect(hands.page.locator(".jp-Dialog")).to_have_count(0)
    doomed.process.kill()
    doomed.process.wait()
    expect(hands.panel).to_contain_text("cannot be reached")
    expect(hands.page.locator(".jp-Notebook .cm-content")).to_have_text("x = 1")
