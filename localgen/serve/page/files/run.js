// One reply on its way: reads the stream into its message, until it ends, is stopped or fails.
import { LoadingWatch } from "./loading.js";
import { touch } from "./merge.js";
import { Pacer } from "./pacer.js";
import { Reply } from "./reply.js";
import { postStream } from "./server.js";

const SAVE_SECONDS = 1;

export class Run {
  // onUpdate(): there is more to show, not too often. onSave(): a time to save, and the end.
  // onLoading(isLoading): the load of its model began or ended.
  // message: what it has stays, and is continued. nBlocks: how many of its blocks are known.
  constructor(conversation, message, { onUpdate, onSave, onLoading, nBlocks = 0 }) {
    this.conversation = conversation;
    this.message = Object.assign(message, { error: null, finishReason: null });
    this.nBlocks = nBlocks;
    this.reply = new Reply({ begun: message });
    this.nTokensBefore = message.usage?.completion_tokens ?? 0;
    this.error = null; // ServerError or Error, once it failed
    this.isEnded = false;
    this.controller = new AbortController();
    this.pacer = new Pacer(onUpdate);
    this.onSave = onSave;
    this.onLoading = onLoading;
    this.savedAt = Date.now();
  }

  get isLoading() {
    return this.loading?.isLoading ?? false;
  }

  async read(body) {
    this.loading = new LoadingWatch(body.model, this.onLoading);
    try {
      for await (const chunk of postStream("/v1/chat/completions", body, this.controller.signal)) {
        this.loading.stop();
        this.reply.add(chunk);
        this.write();
        this.pacer.request();
      }
    } catch (error) {
      if (!this.controller.signal.aborted) this.error = error;
    }
    this.end();
  }

  stop() {
    this.controller.abort();
  }

  // Copies what came so far, and saves it now and then: an interrupted reply keeps it.
  write() {
    const { content, reasoning, toolCalls } = this.reply;
    const usage = this.usage ?? this.message.usage ?? null;
    Object.assign(this.message, { content, reasoning, toolCalls, usage });
    touch(this.message);
    const now = Date.now();
    if (now - this.savedAt < SAVE_SECONDS * 1000) return;
    this.savedAt = now;
    this.onSave();
  }

  // What was there before counts as written, though this time it was a part of the prompt.
  get usage() {
    const { usage } = this.reply;
    return usage && {
      prompt_tokens: Math.max(0, usage.prompt_tokens - this.nTokensBefore),
      completion_tokens: usage.completion_tokens + this.nTokensBefore,
    };
  }

  end() {
    this.isEnded = true;
    this.loading.stop();
    this.pacer.cancel();
    const { reply, message } = this;
    message.finishReason = this.controller.signal.aborted ? "stopped" : reply.finishReason;
    message.error = this.error?.message ?? null;
    touch(message);
    message.speed = reply.speed;
    message.wait = reply.firstAt === null ? null : (reply.firstAt - reply.startedAt) / 1000;
    this.conversation.updated = Date.now();
    this.onSave();
  }
}
