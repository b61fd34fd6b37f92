"""What people may watch while a model answers: pieces on `ai.live`. No facts: nothing is decided by them."""

from typing import Literal

from pydantic import Field

from schemas.ids import ExecutionId
from schemas.message import Message


class LivePiece(Message):
    """Some more of an answer that is being given to a run's question.

    `question` names this very asking: another one, of the same step too, begins anew. `position` counts its pieces
    from 0, so that a lost one is seen. `begun` has no text; `arguments` are those of the answer's n-th call.
    """

    execution_id: ExecutionId
    step: int = Field(ge=1)
    question: str
    position: int = Field(ge=0)
    kind: Literal["begun", "text", "arguments"]
    text: str = ""
    call: int = 0
