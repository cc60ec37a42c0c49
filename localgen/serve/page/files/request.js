// A branch of a conversation as the body of a request.

// isContinued: the last message is a reply, which goes on.
export function chatRequest(model, system, messages, settings, isContinued = false) {
  const before = system.trim() ? [{ role: "system", content: system }] : [];
  return {
    model,
    messages: [...before, ...messages.filter(saysSomething).map(asSent)],
    stream: true,
    // In each chunk, so that a reply that is stopped has it.
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...(isContinued ? { continue_final_message: true, add_generation_prompt: false } : {}),
    ...settings,
  };
}

// A reply that failed before its first token says nothing.
function saysSomething(message) {
  return message.role !== "assistant" || message.content !== "" || message.toolCalls?.length > 0;
}

function asSent(message) {
  if (message.role === "tool") {
    return { role: "tool", tool_call_id: message.toolCallId, content: message.content };
  }
  if (!message.toolCalls?.length) return { role: message.role, content: message.content };
  const calls = message.toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
  return { role: "assistant", content: message.content || null, tool_calls: calls };
}
