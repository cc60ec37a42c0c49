// All conversations: in memory, in the database, and the same in each tab of this page.
import { mergeInto, touch } from "./merge.js";
import { add, erase, loadAll, loadOne, save } from "./storage.js";

export const MAX_BYTES = 100 * 2 ** 20; // of all conversations, as JSON
const FULL = `conversations take more than ${MAX_BYTES / 2 ** 20} MB. Export and delete some`;

export class Library {
  // onChange(id): another tab changed or removed a conversation. onProblem(message): one is not saved.
  constructor({ onChange, onProblem }) {
    this.conversations = new Map();
    this.sizes = new Map();
    this.stored = new Set(); // ids: one that is no longer in the database was deleted by another tab
    this.deleted = new Set(); // ids, here or there
    this.problem = null; // the last one that was told, until something is saved
    this.onChange = onChange;
    this.onProblem = onProblem;
    this.channel = new BroadcastChannel("localgen.conversations");
    this.channel.onmessage = ({ data: ids }) => this.reload(ids);
  }

  async open() {
    try {
      for (const conversation of await loadAll()) this.stored.add(this.hold(conversation).id);
    } catch (error) {
      this.tell(`This browser keeps no conversations for this page (${reasonOf(error)}).`);
    }
  }

  // Returns the conversation with what is new in it: one object for each as long as the page lives.
  hold(conversation) {
    const known = this.conversations.get(conversation.id);
    const held = known && known !== conversation ? mergeInto(known, conversation) : conversation;
    this.conversations.set(held.id, held);
    this.sizes.set(held.id, JSON.stringify(held).length);
    return held;
  }

  drop(id) {
    this.conversations.delete(id);
    this.sizes.delete(id);
    this.deleted.add(id);
  }

  // Newest first.
  get sorted() {
    return [...this.conversations.values()].sort((a, b) => b.updated - a.updated);
  }

  get size() {
    return [...this.sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  // Saves what a person changed.
  save(conversation) {
    touch(conversation);
    return this.saveReply(conversation);
  }

  // Saves a reply that grew, or ended. A conversation that was deleted meanwhile stays deleted.
  async saveReply(conversation) {
    const { id } = conversation;
    if (this.deleted.has(id)) return;
    this.hold(conversation);
    if (this.size > MAX_BYTES) return this.tell(`Not saved: ${FULL}.`);
    const merge = (stored) => this.merged(conversation, stored);
    if (await this.store([id], () => save(id, merge))) this.stored.add(id);
  }

  // Returns what is to be stored, or null.
  merged(conversation, stored) {
    const { id } = conversation;
    if (this.deleted.has(id)) return null;
    if (stored) return mergeInto(conversation, stored);
    if (!this.stored.has(id)) return conversation;
    this.drop(id); // another tab has deleted it
    this.onChange(id);
    return null;
  }

  // Keeps conversations of a file: all of them or none. Throws an Error with the reason.
  async import(conversations) {
    const size = JSON.stringify(conversations).length;
    if (this.size + size > MAX_BYTES) throw new Error(`With these, ${FULL}.`);
    const ids = conversations.map(({ id }) => id);
    try {
      await add(conversations);
    } catch (error) {
      throw new Error(`They cannot be saved: ${reasonOf(error)}.`);
    }
    for (const conversation of conversations) this.hold(conversation);
    for (const id of ids) this.stored.add(id);
    this.channel.postMessage(ids);
  }

  async remove(id) {
    this.drop(id);
    await this.store([id], () => erase(id));
  }

  // Returns whether it was done; tells why not.
  async store(ids, act) {
    try {
      await act();
      this.problem = null;
      this.channel.postMessage(ids);
      return true;
    } catch (error) {
      this.tell(`Not saved: ${reasonOf(error)}. Export this conversation to keep it.`);
      return false;
    }
  }

  // Tells a problem once: a reply on its way is saved each second.
  tell(message) {
    if (message !== this.problem) this.onProblem(message);
    this.problem = message;
  }

  async reload(ids) {
    for (const id of ids) {
      const stored = await loadOne(id).catch(() => null); // what fails is told where it is saved
      if (stored === null) continue;
      if (stored) this.stored.add(this.hold(stored).id);
      else this.drop(id);
      this.onChange(id);
    }
  }
}

function reasonOf(error) {
  return error?.name === "QuotaExceededError"
    ? "the browser's storage is full"
    : (error?.message ?? error);
}
