// One reply on its way: reads the stream into its message, until it ends, is stopped or fails.
import { Reply } from "./reply.js";
import { postStream } from "./server.js";

const SAVE_SECONDS = 1;

export class Run {
  // onUpdate(): there is more to show, at most once a frame. onSave(): a time to save, and the end.
  constructor(conversation, message, { onUpdate, onSave }) {
    this.conversation = conversation;
    this.message = message;
    this.reply = new Reply();
    this.error = null; // ServerError or Error, once it failed
    this.isEnded = false;
    this.controller = new AbortController();
    this.onUpdate = onUpdate;
    this.onSave = onSave;
    this.savedAt = performance.now();
    this.frame = null;
  }

  async read(body) {
    try {
      for await (const chunk of postStream("/v1/chat/completions", body, this.controller.signal)) {
        this.reply.add(chunk);
        this.write();
        this.frame ??= requestAnimationFrame(() => this.update());
      }
    } catch (error) {
      if (!this.controller.signal.aborted) this.error = error;
    }
    this.end();
  }

  stop() {
    this.controller.abort();
  }

  update() {
    this.frame = null;
    this.onUpdate();
    if (performance.now() - this.savedAt < SAVE_SECONDS * 1000) return;
    this.savedAt = performance.now();
    this.onSave();
  }

  // Copies what came so far: an interrupted reply keeps it.
  write() {
    const { content, reasoning, toolCalls, usage } = this.reply;
    Object.assign(this.message, { content, reasoning, toolCalls, usage });
  }

  end() {
    this.isEnded = true;
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    const { reply, message } = this;
    message.finishReason = this.controller.signal.aborted ? "stopped" : reply.finishReason;
    message.error = this.error?.message ?? null;
    message.speed = reply.speed;
    message.wait = reply.firstAt === null ? null : (reply.firstAt - reply.startedAt) / 1000;
    if (!reply.usage) message.usage = null;
    this.conversation.updated = Date.now();
    this.onSave();
  }
}
