// The replies that are on their way, at most one in each conversation.
import { announce } from "./announcer.js";
import { touch } from "./merge.js";
import { tokensText } from "./meters.js";
import { chatRequest } from "./request.js";
import { Run } from "./run.js";

export class ChatRuns {
  // onShow(): a reply began or ended. onGrow(run): there is more of one.
  constructor(library, otherTabs, { onShow, onGrow }) {
    this.library = library;
    this.otherTabs = otherTabs;
    this.onShow = onShow;
    this.onGrow = onGrow;
    this.running = new Map();
  }

  of(conversationId) {
    return this.running.get(conversationId);
  }

  // Reads the reply to the messages before it into its message; returns the run once it ended.
  // nBlocks: of a message that is continued, those that are shown.
  async start(conversation, message, before, nBlocks = 0) {
    const isContinued = message.content !== "";
    const run = new Run(conversation, message, {
      onUpdate: () => this.onGrow(run),
      onSave: () => this.library.saveReply(conversation),
      onLoading: (isLoading) => {
        if (isLoading) announce(`Loading ${conversation.model}`);
        this.onGrow(run);
      },
      nBlocks,
    });
    this.running.set(conversation.id, run);
    touch(message);
    conversation.updated = Date.now();
    this.library.save(conversation);
    announce("Waiting for the reply");
    this.onShow();
    const { model, system, settings } = conversation;
    const messages = isContinued ? [...before, message] : before;
    const ended = run.read(chatRequest(model, system, messages, settings, isContinued));
    this.otherTabs.hold(conversation.id, ended);
    await ended;
    this.running.delete(conversation.id);
    this.onGrow(run);
    announce(outcomeOf(run));
    this.onShow();
    return run;
  }
}

function outcomeOf({ message, reply }) {
  if (message.error) return `The reply failed: ${message.error}`;
  return message.finishReason === "stopped"
    ? "Reply stopped"
    : `Reply complete, ${tokensText(reply.nTokens)}`;
}
