// A reply that grows by the chunks of a stream, with the times that its speed is computed from.

export class Reply {
  // begun: {content, reasoning} of a reply that is continued.
  constructor({ begun = {}, now = () => performance.now() } = {}) {
    this.now = now;
    this.content = begun.content ?? "";
    this.reasoning = begun.reasoning ?? "";
    this.toolCalls = [];
    this.logprobs = [];
    this.finishReason = null;
    this.usage = null;
    this.nChunks = 0;
    this.startedAt = now();
    this.firstAt = null;
    this.lastAt = null;
  }

  add(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    this.content += delta.content ?? "";
    this.reasoning += delta.reasoning_content ?? "";
    for (const call of delta.tool_calls ?? []) this.addToCall(call);
    this.logprobs.push(...(choice.logprobs?.content ?? []));
    this.finishReason = choice.finish_reason ?? this.finishReason;
    if (delta.content || delta.reasoning_content || delta.tool_calls) this.tick();
  }

  addToCall({ index = 0, id, function: called = {} }) {
    const call = (this.toolCalls[index] ??= { id: "", name: "", arguments: "" });
    call.id += id ?? "";
    call.name += called.name ?? "";
    call.arguments += called.arguments ?? "";
  }

  tick() {
    this.lastAt = this.now();
    this.firstAt ??= this.lastAt;
    this.nChunks += 1;
  }

  // Tokens so far: counted by the server at the end, estimated by the number of chunks before.
  get nTokens() {
    return this.usage?.completion_tokens ?? this.nChunks;
  }

  // Tokens per second after the first one, or null if that cannot be told yet.
  get speed() {
    const seconds = (this.lastAt - this.firstAt) / 1000;
    return this.firstAt !== null && seconds > 0.05 ? (this.nTokens - 1) / seconds : null;
  }
}
