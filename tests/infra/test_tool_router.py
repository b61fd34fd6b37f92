from infra.modules.router import ToolRouter
from processors.tools.builtin.communication import DRAFT_EMAIL
from processors.tools.builtin.crm import GET_CONTACT
from processors.tools.port import ToolError, ToolRequest
from schemas.catalogue import ToolDefinition
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json


class Gateway:
    """Says what it was asked."""

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        if request.arguments.get("email") == "no@example.com":
            raise ToolError("There is no contact 'no@example.com'.")
        return {"door": f"{module}.{action}", "key": request.call_id}


def request(tool: ToolDefinition, **arguments: Json) -> ToolRequest:
    return ToolRequest(
        call_id=CallId("call-1"),
        tool=tool,
        arguments=arguments,
        site_id=SiteId("site"),
        agent_id=AgentId("agent"),
        execution_id=ExecutionId("run"),
        correlation_id="why",
    )


async def test_a_tool_goes_through_the_door_of_its_handler_type() -> None:
    router = ToolRouter({"module": Gateway(), "internal": Gateway()})
    assert (await router.call(request(GET_CONTACT))).output == {"door": "crm.getContact", "key": "call-1"}
    assert (await router.call(request(DRAFT_EMAIL))).output == {"door": "email.createEmailDraft", "key": "call-1"}


async def test_a_refusal_comes_back_as_a_result() -> None:
    result = await ToolRouter({"module": Gateway()}).call(request(GET_CONTACT, email="no@example.com"))
    assert result.error == "There is no contact 'no@example.com'."


async def test_a_handler_type_that_nothing_serves_is_a_result_too() -> None:
    result = await ToolRouter({"module": Gateway()}).call(request(DRAFT_EMAIL))
    assert result.error == "email_draft can't be called on this system: nothing serves internal tools."


async def test_a_tool_without_a_module_is_a_result_too() -> None:
    nowhere = GET_CONTACT.model_copy(update={"module": None})
    assert (await ToolRouter({"module": Gateway()}).call(request(nowhere))).error is not None
