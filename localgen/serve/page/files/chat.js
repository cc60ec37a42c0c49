// The chat page: what people do, to which conversation, and what is shown then.
import { announce, announceBlocks } from "./announcer.js";
import { ChatRuns } from "./chat_runs.js";
import { Composer } from "./composer.js";
import { addMessage, branchOf, newConversation, showBranch, titleOf } from "./conversation.js";
import { askForKey, confirmed, connectDialogs, notify } from "./dialogs.js";
import { byId, setText } from "./dom.js";
import { drawIcons } from "./icons.js";
import { keep, recall } from "./kept.js";
import { Library } from "./library.js";
import { contextUse } from "./meters.js";
import { ModelChoice } from "./model_choice.js";
import { checkSettings } from "./settings.js";
import { SettingsForm } from "./settings_form.js";
import { connectShortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { connectThemeSwitch } from "./theme_switch.js";
import { ThreadView } from "./thread_view.js";
import { exportFile, importFile } from "./transfer.js";

class Chat {
  constructor() {
    this.library = new Library({ onChange: (id) => this.onChangeElsewhere(id), onProblem: notify });
    this.models = new ModelChoice(byId("model"), {
      onChoose: (model) => this.changeDefaults({ model }),
      onLoad: () => this.showContext(),
    });
    this.runs = new ChatRuns(this.library, {
      onShow: () => this.show(),
      onGrow: (run) => this.grow(run),
    });
    this.thread = new ThreadView({
      edit: (message, text) => this.ask(message.parent, { role: "user", content: text }),
      regenerate: (message) => this.reply(message.parent),
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
      send: (text) => this.ask(this.conversation.leaf, { role: "user", content: text }),
      stop: () => this.stop(),
      editLast: () => this.editLast(),
    });
    this.form = new SettingsForm(byId("settings-fields"), (settings) =>
      this.changeDefaults({ settings }),
    );
  }

  async start() {
    const address = location.hash; // the first conversation is a new one, until the others are here
    this.connect();
    this.openNew();
    this.models.load();
    await this.library.open();
    history.replaceState(null, "", address || location.pathname);
    this.openFromAddress();
    this.show();
    this.composer.focus();
  }

  connect() {
    byId("new").addEventListener("click", () => this.openNew());
    byId("system").addEventListener("input", (event) => this.changeSystem(event.target.value));
    byId("export").addEventListener("click", () => exportFile([this.conversation]));
    byId("export-all").addEventListener("click", () => exportFile(this.library.sorted));
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", (event) => this.import(event.target));
    byId("sidebar-toggle").addEventListener("click", () => this.toggleSidebar());
    byId("shade").addEventListener("click", () => this.toggleSidebar(false));
    window.addEventListener("hashchange", () => this.openFromAddress());
    connectShortcuts({
      stop: () => this.stop(),
      open: () => this.openNew(),
      search: () => {
        this.toggleSidebar(true);
        byId("search").focus();
      },
      write: () => this.composer.focus(),
      settings: () => byId("settings").showModal(),
      help: () => byId("shortcuts").showModal(),
      closeSidebar: () => this.toggleSidebar(false),
    });
  }

  // --- which conversation ---

  openNew() {
    const defaults = readDefaults();
    this.open(
      newConversation({
        model: this.models.current || defaults.model,
        settings: defaults.settings,
      }),
    );
  }

  openFromAddress() {
    const conversation = this.library.conversations.get(location.hash.slice(1));
    if (conversation && conversation !== this.conversation) this.open(conversation);
  }

  open(conversation) {
    this.conversation = conversation;
    const isKept = this.library.conversations.has(conversation.id);
    history.replaceState(null, "", isKept ? `#${conversation.id}` : location.pathname);
    this.showOptions();
    this.toggleSidebar(false);
    this.show();
    this.composer.focus();
  }

  // Another tab changed or removed a conversation.
  onChangeElsewhere(id) {
    const changed = this.library.conversations.get(id);
    if (id === this.conversation.id && !this.runs.of(id)) {
      if (!changed) return this.openNew();
      this.conversation = changed;
      this.showOptions();
    }
    this.show();
  }

  async rename(conversation, title) {
    conversation.title = title;
    await this.library.save(conversation);
    this.show();
  }

  async remove(conversation) {
    if (!(await confirmed(`Delete “${titleOf(conversation)}”? This cannot be undone.`, "Delete")))
      return;
    this.runs.of(conversation.id)?.stop();
    await this.library.remove(conversation.id);
    if (conversation.id === this.conversation.id) this.openNew();
    this.sidebar.show(this.conversation.id);
    announce("Deleted");
  }

  async import(field) {
    const [file] = field.files;
    try {
      const imported = await importFile(file);
      for (const conversation of imported) await this.library.save(conversation);
      if (imported.length) this.open(imported[0]);
      notify(
        `Imported: ${imported.length} ${imported.length === 1 ? "conversation" : "conversations"}.`,
      );
    } catch (error) {
      notify(`Nothing was imported. ${error.message}`);
    }
    field.value = "";
  }

  // --- what is said ---

  ask(parent, message) {
    if (this.runs.of(this.conversation.id)) return;
    const added = addMessage(this.conversation, parent, message);
    this.thread.isAtEnd = true;
    this.reply(added.id);
  }

  // Adds a reply to a message and reads it from the server.
  async reply(parent) {
    const { conversation } = this;
    if (this.runs.of(conversation.id)) return;
    conversation.model = this.models.current;
    const before = branchOf(conversation, parent);
    const message = addMessage(conversation, parent, {
      role: "assistant",
      model: conversation.model,
      reasoning: "",
      toolCalls: [],
    });
    const ended = this.runs.start(conversation, message, before);
    history.replaceState(null, "", `#${conversation.id}`);
    const { error } = await ended;
    const isHere = conversation === this.conversation;
    if (error?.status === 401 && isHere && (await askForKey(error.message))) this.retry(message);
  }

  // A reply that failed and says nothing makes way for the new one.
  retry(message) {
    if (!message.content && !message.reasoning && !message.toolCalls.length) {
      this.conversation.messages = this.conversation.messages.filter((each) => each !== message);
    }
    this.reply(message.parent);
  }

  answerCalls(message, results) {
    let parent = message.id;
    for (const { id, content } of results) {
      parent = addMessage(this.conversation, parent, { role: "tool", toolCallId: id, content }).id;
    }
    this.reply(parent);
  }

  showVersion(message, label) {
    showBranch(this.conversation, message);
    this.library.save(this.conversation);
    this.show();
    const { element } = this.thread.viewOf(message);
    const same = [...element.querySelectorAll(".versions button")].find(
      (each) => each.title === label && !each.disabled,
    );
    (same ?? element).focus();
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

  // --- options ---

  changeSystem(system) {
    this.conversation.system = system;
    this.saveOptions();
  }

  // What is chosen here holds for this conversation and for new ones.
  changeDefaults(changed) {
    Object.assign(this.conversation, changed);
    keep("local", "defaults", JSON.stringify({ ...readDefaults(), ...changed }));
    this.saveOptions();
  }

  saveOptions() {
    if (this.library.conversations.has(this.conversation.id)) this.library.save(this.conversation);
    this.show();
  }

  // --- what is shown ---

  showOptions() {
    const { model, settings, system } = this.conversation;
    this.models.choose(model);
    this.form.show(settings);
    byId("system").value = system;
  }

  show() {
    const { conversation } = this;
    const run = this.runs.of(conversation.id);
    const title = titleOf(conversation);
    setText(byId("title"), title);
    document.title = conversation.messages.length ? `${title} – localgen` : "localgen";
    this.thread.show(conversation, run);
    this.sidebar.show(conversation.id);
    this.composer.show(run !== undefined);
    this.showSettingsCount();
    this.showContext();
  }

  grow(run) {
    if (run.conversation !== this.conversation) return;
    this.thread.grow(run);
    announceBlocks(run, this.thread.blocksOf(run.message), run.isEnded);
    this.showContext();
  }

  showSettingsCount() {
    const { settings, system } = this.conversation;
    const n = Object.keys(settings).length + (system.trim() ? 1 : 0);
    setText(byId("settings-count"), n ? String(n) : "");
    byId("open-settings").setAttribute("aria-label", n ? `Settings, ${n} set` : "Settings");
  }

  showContext() {
    const run = this.runs.of(this.conversation.id);
    const counted = branchOf(this.conversation).findLast((message) => message.usage);
    const before = counted ? counted.usage.prompt_tokens + counted.usage.completion_tokens : 0;
    const growing = run && counted !== run.message ? run.reply.nTokens : 0;
    const use = contextUse(before + growing, this.models.nCtx(this.conversation.model));
    const meter = byId("context");
    meter.hidden = use.used === 0;
    setText(byId("context-text"), use.text);
    byId("context-bar").hidden = use.total === null;
    byId("context-fill").style.width = `${100 * use.share}%`;
    meter.classList.toggle("full", use.share > 0.9);
    const speed = run?.reply.speed;
    setText(byId("speed"), speed ? `${speed.toFixed(1)} tokens/s` : "");
  }

  toggleSidebar(isOpen = !document.body.classList.contains("with-sidebar")) {
    document.body.classList.toggle("with-sidebar", isOpen);
    byId("sidebar-toggle").setAttribute("aria-expanded", String(isOpen));
    const isOver = isOpen && matchMedia("(max-width: 52rem)").matches;
    byId("main").inert = isOver;
    if (isOver) byId("new").focus();
    else if (
      byId("sidebar").contains(document.activeElement) &&
      matchMedia("(max-width: 52rem)").matches
    )
      byId("sidebar-toggle").focus();
  }
}

function readDefaults() {
  try {
    const { model, settings } = JSON.parse(recall("local", "defaults") ?? "{}");
    return {
      model: typeof model === "string" ? model : "",
      settings: checkSettings(settings ?? {}),
    };
  } catch {
    return { model: "", settings: {} }; // written by another version of this page
  }
}

drawIcons(document);
connectDialogs();
connectThemeSwitch();
new Chat().start();
