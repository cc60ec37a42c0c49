// The chat page: what people do, to which conversation, and what is shown then.
import { announce, announceBlocks } from "./announcer.js";
import { ChatRuns } from "./chat_runs.js";
import { Composer } from "./composer.js";
import { showContext } from "./context_view.js";
import {
  addMessage,
  branchOf,
  findMessage,
  newConversation,
  showBranch,
  titleOf,
} from "./conversation.js";
import { askForKey, confirmed, connectDialogs, notify } from "./dialogs.js";
import { byId, setText } from "./dom.js";
import { Drawer } from "./drawer.js";
import { drawIcons } from "./icons.js";
import { Library } from "./library.js";
import { OptionsPanel } from "./options_panel.js";
import { OtherTabs } from "./other_tabs.js";
import { connectShortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { connectThemeSwitch } from "./theme_switch.js";
import { ThreadView } from "./thread_view.js";
import { exportFile, importFile } from "./transfer.js";

const BUSY =
  "A reply to this conversation comes in another tab. Wait until it has ended, or stop it there.";

class Chat {
  constructor() {
    this.drawer = new Drawer();
    this.otherTabs = new OtherTabs(() => this.show());
    this.library = new Library({
      onChange: (id) => this.onChangeElsewhere(id),
      onProblem: notify,
    });
    this.options = new OptionsPanel({
      onChange: () => this.saveOptions(),
      onModels: () => this.showContext(),
    });
    this.runs = new ChatRuns(this.library, this.otherTabs, {
      onShow: () => this.show(),
      onGrow: (run) => this.grow(run),
    });
    this.thread = new ThreadView({
      edit: (message, text) => this.ask(message.parent, text) && this.focusQuestion(),
      regenerate: (message) => this.reply(message.parent),
      goOn: (message) => this.goOn(message),
      retry: (message) => this.retry(message),
      show: (message, label) => this.showVersion(message, label),
      answer: (message, results) => this.answerCalls(message, results),
    });
    this.sidebar = new Sidebar(this.library, {
      open: (conversation) => this.open(conversation),
      rename: (conversation, title) => this.rename(conversation, title),
      remove: (conversation) => this.remove(conversation),
    });
    this.composer = new Composer({
      send: (text) => this.ask(this.conversation.leaf, text),
      stop: () => this.stop(),
      editLast: () => this.editLast(),
    });
  }

  async start() {
    const address = location.hash; // the first conversation is a new one, until the others are here
    this.connect();
    this.openNew();
    this.options.load();
    await this.library.open();
    if (!this.conversation.messages.length) {
      history.replaceState(null, "", address || location.pathname);
      this.openFromAddress();
    }
    this.show();
    this.composer.focus();
  }

  connect() {
    byId("new").addEventListener("click", () => this.openNew());
    byId("export").addEventListener("click", () => exportFile([this.conversation]));
    byId("export-all").addEventListener("click", () => exportFile(this.library.sorted));
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", (event) => this.import(event.target));
    window.addEventListener("hashchange", () => this.openFromAddress());
    connectShortcuts({
      stop: () => this.stop(),
      open: () => this.openNew(),
      search: () => this.openSearch(),
      write: () => this.composer.focus(),
      settings: () => byId("settings").showModal(),
      help: () => byId("shortcuts").showModal(),
      closeSidebar: () => this.drawer.set(false),
    });
  }

  // --- which conversation ---

  openNew() {
    const { model, settings } = this.options.defaults;
    this.open(newConversation({ model, settings }));
  }

  openFromAddress() {
    const conversation = this.library.conversations.get(location.hash.slice(1));
    if (conversation && conversation !== this.conversation) this.open(conversation);
  }

  open(conversation) {
    this.conversation = conversation;
    const isKept = this.library.conversations.has(conversation.id);
    history.replaceState(null, "", isKept ? `#${conversation.id}` : location.pathname);
    this.options.show(conversation);
    this.otherTabs.look(conversation.id);
    this.drawer.set(false);
    this.show();
    this.composer.focus();
  }

  openSearch() {
    this.drawer.set(true);
    byId("search").focus();
  }

  // Another tab changed or removed a conversation.
  onChangeElsewhere(id) {
    const isShown = id === this.conversation.id;
    if (!this.library.conversations.has(id)) {
      this.runs.of(id)?.stop();
      if (isShown) this.openNew();
      if (isShown) notify("This conversation was deleted in another tab.");
    } else if (isShown) {
      this.options.refresh();
      this.otherTabs.look(id);
    }
    this.show();
  }

  async rename(conversation, title) {
    conversation.title = title;
    await this.library.save(conversation);
    this.show();
  }

  async remove(conversation) {
    const question = `Delete “${titleOf(conversation)}”? This cannot be undone.`;
    if (!(await confirmed(question, "Delete"))) return;
    this.runs.of(conversation.id)?.stop();
    await this.library.remove(conversation.id);
    if (conversation.id === this.conversation.id) this.openNew();
    this.show();
    announce("Deleted");
  }

  async import(field) {
    const [file] = field.files;
    try {
      const imported = await importFile(file);
      await this.library.import(imported);
      if (imported.length) this.open(imported[0]);
      const n = imported.length;
      notify(n === 1 ? "Imported 1 conversation." : `Imported ${n} conversations.`);
    } catch (error) {
      notify(`Nothing was imported. ${error.message}`);
    }
    field.value = ""; // so that the same file can be chosen again
  }

  // --- what is said ---

  // Whether the conversation may get a reply now.
  mayReply() {
    const { id } = this.conversation;
    if (this.otherTabs.isBusy(id)) notify(BUSY);
    return !this.runs.of(id) && !this.otherTabs.isBusy(id);
  }

  // Returns whether the text was sent.
  ask(parent, text) {
    if (!this.mayReply()) return false;
    const added = addMessage(this.conversation, parent, { role: "user", content: text });
    this.thread.isAtEnd = true;
    this.reply(added.id);
    return true;
  }

  focusQuestion() {
    const { parent } = findMessage(this.conversation, this.conversation.leaf);
    this.thread.viewOf(findMessage(this.conversation, parent)).element.focus();
    return true;
  }

  // Adds a reply to a message and reads it from the server.
  async reply(parent) {
    const { conversation } = this;
    if (!this.mayReply()) return;
    conversation.model = this.options.models.current;
    const before = branchOf(conversation, parent);
    const { model } = conversation;
    const message = addMessage(conversation, parent, {
      role: "assistant",
      model,
      reasoning: "",
      toolCalls: [],
    });
    const ended = this.runs.start(conversation, message, before);
    history.replaceState(null, "", `#${conversation.id}`);
    await this.finish(conversation, message, ended);
  }

  // Continues a reply that was cut, or that never began, by the model that is chosen now.
  async goOn(message) {
    const { conversation } = this;
    if (!this.mayReply()) return;
    conversation.model = message.model = this.options.models.current;
    const before = branchOf(conversation, message.parent);
    const nBlocks = Math.max(0, this.thread.blocksOf(message).length - 1);
    const ended = this.runs.start(conversation, message, before, nBlocks);
    this.thread.viewOf(message).element.focus();
    await this.finish(conversation, message, ended);
  }

  async finish(conversation, message, ended) {
    const { error } = await ended;
    const { model } = conversation;
    // The server knows the context of a model once it is in memory.
    if (!error && this.options.models.nCtx(model) === null) this.options.load();
    const isHere = conversation === this.conversation;
    if (error?.status !== 401 || !isHere || !(await askForKey(error.message))) return;
    if (conversation === this.conversation) this.goOn(message);
  }

  // A reply that failed and says nothing is tried again in its place.
  retry(message) {
    const saysNothing = !message.content && !message.reasoning && !message.toolCalls.length;
    if (saysNothing) this.goOn(message);
    else this.reply(message.parent);
  }

  answerCalls(message, results) {
    if (!this.mayReply()) return;
    let parent = message.id;
    for (const { id, content } of results) {
      parent = addMessage(this.conversation, parent, { role: "tool", toolCallId: id, content }).id;
    }
    this.reply(parent);
  }

  // label: of the button that was pressed, which keeps the focus on the version that comes.
  showVersion(message, label) {
    showBranch(this.conversation, message);
    this.library.save(this.conversation);
    this.show();
    this.thread.focusVersions(message, label);
  }

  stop() {
    const run = this.runs.of(this.conversation.id);
    run?.stop();
    return run !== undefined;
  }

  editLast() {
    const last = branchOf(this.conversation).findLast((message) => message.role === "user");
    if (!last || this.runs.of(this.conversation.id)) return false;
    this.thread.viewOf(last).edit();
    return true;
  }

  saveOptions() {
    const isKept = this.library.conversations.has(this.conversation.id);
    if (isKept) this.library.save(this.conversation);
    this.show();
  }

  // --- what is shown ---

  show() {
    const { conversation } = this;
    const run = this.runs.of(conversation.id);
    const title = titleOf(conversation);
    setText(byId("title"), title);
    document.title = conversation.messages.length ? `${title} – localgen` : "localgen";
    this.thread.show(conversation, run, this.otherTabs.isBusy(conversation.id));
    this.sidebar.show(conversation.id);
    this.composer.show(run !== undefined);
    this.options.showCount();
    this.showContext();
  }

  grow(run) {
    if (run.conversation !== this.conversation) return;
    this.thread.grow(run);
    announceBlocks(run, this.thread.blocksOf(run.message), run.isEnded);
    this.showContext();
  }

  showContext() {
    const { conversation, options } = this;
    const nCtx = options.models.nCtx(options.models.current);
    showContext(conversation, this.runs.of(conversation.id), nCtx);
  }
}

drawIcons(document);
connectDialogs();
connectThemeSwitch();
new Chat().start();
