"""What agents keep is found again by its words: by the same agent, and by no other."""

from infra.memory import MemoryGateway
from processors.tools.builtin.memory import RECALL_TOOL, REMEMBER_TOOL
from processors.tools.port import ToolRequest
from projections.db import Pool
from projections.projector import Projector
from projections.rebuild import rebuild
from schemas.events import MemoryStored
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json, JsonObject
from tests.naughty import naughty_strings
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, SITE, Stream
from tests.projections.journal import Journal


def keep(stream: Stream, content: str, subject: str | None = None, name: str = "t1") -> str:
    run = stream.started(name).assembled().thought("", "remember").requested("remember")
    run.tool_completed({"kept": True}, "remember")
    call_id = run.call_id()
    stream.say(MemoryStored(execution_id=run.id, memory_id=call_id, kind="fact", subject=subject, content=content))
    return call_id


async def recalled(journal: Journal, pool: Pool, stream: Stream, query: str, **given: Json) -> JsonObject:
    request = ToolRequest(
        CallId("c"),
        RECALL_TOOL,
        {"query": query, **given},
        SiteId(stream.site_id),
        AgentId(stream.agent_id),
        ExecutionId("r"),
        "why",
    )
    found: JsonObject = await MemoryGateway(journal, pool, caught_up_s=0.2).call("memory", "recall", request)
    return found


async def test_a_memory_is_found_by_any_of_its_words_and_its_subject(pool: Pool, journal: Journal) -> None:
    mine, other, foreign = Stream(slug="one").created(), Stream(slug="two").created(), Stream(OTHER_SITE).created()
    tea = keep(mine, "Maya likes green tea.", "contact:maya", "t1")
    late = keep(mine, "Noor pays late, and likes tea.", "contact:noor", "t2")
    keep(other, "Maya likes coffee.", "contact:maya")
    keep(foreign, "Maya likes wine.", "contact:maya")
    await journal.tell(mine, other, foreign)
    behind = await recalled(journal, pool, mine, "tea")
    assert behind == {"memories": [], "count": 0, "newest_may_be_missing": True}
    await Projector(journal, pool).catch_up()
    found = await recalled(journal, pool, mine, "GREEN TEA?")
    assert [each["id"] for each in found["memories"]] == [tea, late]  # the better one first
    assert found["memories"][0] | {"created_at": ""} == {
        "id": tea,
        "kind": "fact",
        "subject": "contact:maya",
        "content": "Maya likes green tea.",
        "created_at": "",
    }
    assert "newest_may_be_missing" not in found
    about = await recalled(journal, pool, mine, "tea", subject="contact:noor")
    assert [each["id"] for each in about["memories"]] == [late]
    assert (await recalled(journal, pool, mine, "coffee wine"))["count"] == 0
    assert (await recalled(journal, pool, mine, "!", limit=1))["count"] == 1  # no words: the newest
    assert (await recalled(journal, pool, other, "maya"))["memories"][0]["content"] == "Maya likes coffee."


async def test_no_question_breaks_the_search_and_no_memory_the_table(pool: Pool, journal: Journal) -> None:
    stream = Stream(slug="naughty").created()
    texts = [text for text in naughty_strings() if text][:60]
    for number, text in enumerate(texts):
        keep(stream, text.encode("utf-8", "replace").decode(), name=f"t{number}")
    await journal.tell(stream)
    await Projector(journal, pool).catch_up()
    for text in texts:
        await recalled(journal, pool, stream, text, limit=20)
    rows = (await dump(pool))["ai_agent_memories"]
    assert len(rows) == len(texts)
    await rebuild(pool)
    await Projector(journal, pool).catch_up()
    assert (await dump(pool))["ai_agent_memories"] == rows


async def test_remembering_is_answered_with_its_id() -> None:
    request = ToolRequest(
        CallId("c"), REMEMBER_TOOL, {"content": "x"}, SiteId(SITE), AgentId("a"), ExecutionId("r"), "why"
    )
    gateway = MemoryGateway(Journal(), None)  # type: ignore[arg-type]  # neither is asked
    assert await gateway.call("memory", "remember", request) == {"memory_id": "c", "kept": True}
