// All conversations: in memory, in the database, and the same in each tab of this page.
import { erase, loadAll, loadOne, save } from "./storage.js";

const MAX_BYTES = 100 * 2 ** 20; // of all conversations, as JSON

export class Library {
  // onChange(id): another tab changed or removed a conversation. onProblem(message): one is not saved.
  constructor({ onChange, onProblem }) {
    this.conversations = new Map();
    this.sizes = new Map();
    this.onChange = onChange;
    this.onProblem = onProblem;
    this.channel = new BroadcastChannel("localgen.conversations");
    this.channel.onmessage = ({ data: id }) => this.reload(id);
  }

  async open() {
    try {
      for (const conversation of await loadAll()) this.hold(conversation);
    } catch (error) {
      this.onProblem(`This browser keeps no conversations for this page (${error.message}).`);
    }
  }

  hold(conversation) {
    this.conversations.set(conversation.id, conversation);
    this.sizes.set(conversation.id, JSON.stringify(conversation).length);
  }

  // Newest first.
  get sorted() {
    return [...this.conversations.values()].sort((a, b) => b.updated - a.updated);
  }

  get size() {
    return [...this.sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  async save(conversation) {
    this.hold(conversation);
    if (this.size > MAX_BYTES) {
      this.onProblem(
        `Not saved: conversations take more than ${MAX_BYTES / 2 ** 20} MB. Export and delete some.`,
      );
      return;
    }
    await this.store(() => save(conversation), conversation.id);
  }

  async remove(id) {
    this.conversations.delete(id);
    this.sizes.delete(id);
    await this.store(() => erase(id), id);
  }

  async store(act, id) {
    try {
      await act();
      this.channel.postMessage(id);
    } catch (error) {
      const reason =
        error?.name === "QuotaExceededError" ? "the browser's storage is full" : error?.message;
      this.onProblem(`Not saved: ${reason}. Export this conversation to keep it.`);
    }
  }

  async reload(id) {
    const conversation = await loadOne(id);
    if (conversation) {
      this.hold(conversation);
    } else {
      this.conversations.delete(id);
      this.sizes.delete(id);
    }
    this.onChange(id);
  }
}
