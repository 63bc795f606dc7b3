"""Requests and renders of the panel while something changes, and while nothing does."""

from __future__ import annotations

from playwright.sync_api import Request, Response, expect
from support.page import POLL_URL, LabPage

#: Count the commits of React in the panel, as React's developer tools do.
_COUNT_RENDERS = """() => {
  window.renders = 0;
  window.__REACT_DEVTOOLS_GLOBAL_HOOK__ = {
    supportsFiber: true,
    inject: () => 1,
    onCommitFiberUnmount: () => {},
    onCommitFiberRoot: (_id, root) => {
      window.renders += root.containerInfo.closest('#axon-panel') === null ? 0 : 1;
    }
  };
}"""


def wait_for_polls(lab: LabPage, count: int) -> None:
    for _ in range(count):
        with lab.page.expect_response(POLL_URL):
            pass


def test_nothing_is_rendered_and_each_poll_is_one_request_while_nothing_changes(
    lab: LabPage, path: str
) -> None:
    notebook_id = lab.server.create_record(path, "x = 1")
    lab.server.add_checkpoint(notebook_id, 0, 1, metrics={"loss": 0.5})
    page = lab.page.context.new_page()
    page.add_init_script(f"({_COUNT_RENDERS})()")
    watched = LabPage(page, lab.server)
    watched.load(path)
    watched.open_panel()
    expect(watched.rows).to_have_count(1)
    wait_for_polls(watched, 3)
    renders = page.evaluate("window.renders")
    assert renders > 0
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    wait_for_polls(watched, 6)
    polls = [response for response in responses if "/axon/" in response.url]
    assert [(POLL_URL.search(poll.url) is not None, poll.status) for poll in polls] == [
        (True, 304)
    ] * 6
    assert page.evaluate("window.renders") == renders
    lab.server.add_checkpoint(notebook_id, 1, 2, metrics={"loss": 0.4})
    expect(watched.rows).to_have_count(2)
    lab.server.update_record(notebook_id, status="completed")
    expect(watched.header).to_contain_text("Completed")
    assert page.evaluate("window.renders") > renders


def test_requests_of_the_panel_itself_are_no_user_activity(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "x = 1")
    lab.server.add_checkpoint(notebook_id, 0, 0, metrics={"loss": 1.0})
    urls: list[str] = []

    def add(request: Request) -> None:
        if "/axon/" in request.url:
            urls.append(request.url)

    lab.page.on("request", add)
    lab.show(path, checkpoints=1)
    wait_for_polls(lab, 2)
    names = {url.partition("?")[0].rpartition("/")[2] for url in urls}
    assert {notebook_id, "notebooks", "checkpoints", "metrics", "runs", "versions"} <= names
    assert [url for url in urls if "no_track_activity=1" not in url] == []

    lab.section("Versions").click()
    lab.page.locator(".axon-Versions li").first.get_by_role("button", name="Open").click()
    expect(lab.page.locator(".axon-Version")).to_contain_text("x = 1")
    lab.page.remove_listener("request", add)
    # The version and the record with which it is compared were requested by the user.
    assert ["/versions/" in url for url in urls if "no_track_activity" not in url] == [True, False]
