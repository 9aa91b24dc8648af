"""agentkit: retrieval-augmented, tool-calling agents on models inside the process.

Everything public is here; each name is imported when it is first used, so that
``import agentkit`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.approvals import Approval
    from agentkit.audit import AuditLog, AuditRecord, AuditWarning
    from agentkit.chat_format import CHATML, GRANITE, ChatFormat, PromptBuilder
    from agentkit.errors import (
        AgentkitError,
        AuditError,
        ContextLengthError,
        IndexFormatError,
        InvalidToolCallError,
        LimitExceededError,
        MessageError,
        MissingExtraError,
        ModelAccessError,
        ModelBehaviorError,
        ModelConnectionError,
        ModelError,
        ModelLoadError,
        ModelNotFoundError,
        ModelServerError,
        RetrievalError,
        RunError,
        SchemaError,
        ScriptError,
        SessionBusyError,
        SessionError,
        ToolError,
        ToolExecutionError,
        ToolTimeoutError,
        UserError,
    )
    from agentkit.events import (
        AnswerChecked,
        ApprovalRequested,
        CallDelta,
        Event,
        Retrieval,
        Retry,
        Rewind,
        RunFinished,
        StepFinished,
        TextDelta,
        ToolCallStarted,
        ToolResult,
        ToolsSelected,
    )
    from agentkit.grounding import AnswerCheck, Citation, GroundedAnswer, GroundedSentence
    from agentkit.limits import Limits
    from agentkit.messages import (
        AssistantMessage,
        Message,
        SystemMessage,
        ToolCall,
        ToolMessage,
        UserMessage,
        example_call,
    )
    from agentkit.models.base import (
        Model,
        ModelRequest,
        ModelResponse,
        Sampling,
        Timings,
        TokenLogprob,
        Usage,
    )
    from agentkit.models.scripted import ScriptedModel
    from agentkit.models.transformers_model import TransformersModel
    from agentkit.parsing import ParsedCall, ToolCallParser, parse_output
    from agentkit.redaction import Secrets
    from agentkit.remote.model import OpenAIModel
    from agentkit.result import (
        CallRecord,
        RetrievalRecord,
        RewindRecord,
        RunResult,
        StepRecord,
    )
    from agentkit.retrieval import (
        ConversationRetriever,
        Document,
        Retriever,
        RetrieverTool,
        ScoredDocument,
    )
    from agentkit.tokenizer_template import TokenizerTemplate
    from agentkit.tool_selection import ToolSelector
    from agentkit.tools import Tool, ToolContext, ToolDefinition, ToolOutput
    from agentkit_retrievers import FaissRetriever, HybridRetriever
    from agentkit_tools import FunctionTool, HTTPTool, tool

_MODULES = {
    "agentkit.agent": "Agent",
    "agentkit.approvals": "Approval",
    "agentkit.audit": "AuditLog AuditRecord AuditWarning",
    "agentkit.chat_format": "CHATML GRANITE ChatFormat PromptBuilder",
    "agentkit.errors": (
        "AgentkitError AuditError ContextLengthError IndexFormatError InvalidToolCallError "
        "LimitExceededError MessageError MissingExtraError ModelAccessError ModelBehaviorError "
        "ModelConnectionError ModelError ModelLoadError ModelNotFoundError ModelServerError "
        "RetrievalError RunError SchemaError ScriptError SessionBusyError SessionError ToolError "
        "ToolExecutionError ToolTimeoutError UserError"
    ),
    "agentkit.events": (
        "AnswerChecked ApprovalRequested CallDelta Event Retrieval Retry Rewind RunFinished "
        "StepFinished TextDelta ToolCallStarted ToolResult ToolsSelected"
    ),
    "agentkit.grounding": "AnswerCheck Citation GroundedAnswer GroundedSentence",
    "agentkit.limits": "Limits",
    "agentkit.messages": (
        "AssistantMessage Message SystemMessage ToolCall ToolMessage UserMessage example_call"
    ),
    "agentkit.models.base": "Model ModelRequest ModelResponse Sampling Timings TokenLogprob Usage",
    "agentkit.models.scripted": "ScriptedModel",
    "agentkit.models.transformers_model": "TransformersModel",
    "agentkit.parsing": "ParsedCall ToolCallParser parse_output",
    "agentkit.redaction": "Secrets",
    "agentkit.remote.model": "OpenAIModel",
    "agentkit.result": "CallRecord RetrievalRecord RewindRecord RunResult StepRecord",
    "agentkit.retrieval": "ConversationRetriever Document Retriever RetrieverTool ScoredDocument",
    "agentkit.tokenizer_template": "TokenizerTemplate",
    "agentkit.tool_selection": "ToolSelector",
    "agentkit.tools": "Tool ToolContext ToolDefinition ToolOutput",
    # Re-exported for convenience; the core itself needs neither package.
    "agentkit_retrievers": "FaissRetriever HybridRetriever",
    "agentkit_tools": "FunctionTool HTTPTool tool",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__version__ = "0.1.0"

__all__ = [
    "CHATML",
    "GRANITE",
    "Agent",
    "AgentkitError",
    "AnswerCheck",
    "AnswerChecked",
    "Approval",
    "ApprovalRequested",
    "AssistantMessage",
    "AuditError",
    "AuditLog",
    "AuditRecord",
    "AuditWarning",
    "CallDelta",
    "CallRecord",
    "ChatFormat",
    "Citation",
    "ContextLengthError",
    "ConversationRetriever",
    "Document",
    "Event",
    "FaissRetriever",
    "FunctionTool",
    "GroundedAnswer",
    "GroundedSentence",
    "HTTPTool",
    "HybridRetriever",
    "IndexFormatError",
    "InvalidToolCallError",
    "LimitExceededError",
    "Limits",
    "Message",
    "MessageError",
    "MissingExtraError",
    "Model",
    "ModelAccessError",
    "ModelBehaviorError",
    "ModelConnectionError",
    "ModelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelRequest",
    "ModelResponse",
    "ModelServerError",
    "OpenAIModel",
    "ParsedCall",
    "PromptBuilder",
    "Retrieval",
    "RetrievalError",
    "RetrievalRecord",
    "Retriever",
    "RetrieverTool",
    "Retry",
    "Rewind",
    "RewindRecord",
    "RunError",
    "RunFinished",
    "RunResult",
    "Sampling",
    "SchemaError",
    "ScoredDocument",
    "ScriptError",
    "ScriptedModel",
    "Secrets",
    "SessionBusyError",
    "SessionError",
    "StepFinished",
    "StepRecord",
    "SystemMessage",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "TokenizerTemplate",
    "Tool",
    "ToolCall",
    "ToolCallParser",
    "ToolCallStarted",
    "ToolContext",
    "ToolDefinition",
    "ToolError",
    "ToolExecutionError",
    "ToolMessage",
    "ToolOutput",
    "ToolResult",
    "ToolSelector",
    "ToolTimeoutError",
    "ToolsSelected",
    "TransformersModel",
    "Usage",
    "UserError",
    "UserMessage",
    "example_call",
    "parse_output",
    "tool",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
