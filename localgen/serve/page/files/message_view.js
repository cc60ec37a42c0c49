// Shows one message, with what can be done to it.
import { copyButton } from "./clipboard.js";
import { h, setText } from "./dom.js";
import { icon } from "./icons.js";
import { MessageEditor } from "./message_editor.js";
import { MarkdownView } from "./markdown_view.js";
import { isCut, replyFacts } from "./meters.js";
import { ToolCallsView } from "./tool_calls_view.js";

const NAMES = { user: "You", assistant: "Reply", tool: "Tool result" };

function button(label, name, action) {
  return h(
    "button",
    { type: "button", class: "quiet-button", "aria-label": label, title: label, onclick: action },
    icon(name),
  );
}

export class MessageView {
  // actions: {edit(message, text) → whether it was sent, regenerate(message), goOn(message), retry(message),
  // show(message, label), answer(message, results)}.
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.editor = null; // while the message is changed
    this.heading = h("h2", { class: "hidden" });
    this.body = h("div", { class: "body" });
    this.footer = h("footer", { class: "message-footer" });
    this.element = h(
      "article",
      { class: `message ${message.role}`, tabindex: "-1" },
      this.heading,
      this.body,
      this.footer,
    );
    this.parts = message.role === "assistant" ? new ReplyParts(this) : new PlainParts(this);
  }

  // state: {siblings, isRunning, isLoading, isLast, isFree}. isLoading: the reply waits for its model.
  // isFree: no reply of the conversation is on its way.
  update(state) {
    this.state = state;
    setText(this.heading, NAMES[this.message.role]);
    this.parts.update(state);
    this.editor?.update(state.isFree);
    this.updateFooter(state);
  }

  // The footer is made again only if it changes: a button in it may have the focus.
  updateFooter({ siblings, isRunning, isLast, isFree }) {
    const key = [
      siblings.length,
      siblings.indexOf(this.message),
      isRunning,
      isLast,
      isFree,
      this.message.error,
    ].join();
    if (key === this.footerKey) return;
    this.footerKey = key;
    const focused = document.activeElement?.getAttribute("aria-label");
    const hadFocus = this.footer.contains(document.activeElement);
    this.footer.replaceChildren(...this.footerNodes());
    const same = [...this.footer.querySelectorAll("button")].find(
      (each) => each.getAttribute("aria-label") === focused,
    );
    if (hadFocus) (same && !same.disabled ? same : this.element).focus();
  }

  footerNodes() {
    if (this.state.isRunning) return [];
    const { role, content, error } = this.message;
    if (error && !content) return [this.versions()].filter(Boolean); // the error has its own button
    const copy = copyButton(
      role === "user" ? "Copy your message" : "Copy this reply",
      () => this.message.content,
    );
    const actions = content ? [copy] : [];
    if (role === "user" && this.state.isFree)
      actions.push(button("Edit this message", "edit", () => this.edit()));
    if (role === "assistant" && this.state.isFree) {
      actions.push(
        button("Generate another reply", "again", () => this.actions.regenerate(this.message)),
      );
      if (this.state.isLast && !error && canGoOn(this.message))
        actions.push(
          button("Continue this reply", "more", () => this.actions.goOn(this.message)),
        );
    }
    const facts =
      role === "assistant"
        ? h("span", { class: "facts" }, replyFacts(this.message).join(" · "))
        : null;
    return [this.versions(), h("span", { class: "actions" }, ...actions), facts].filter(Boolean);
  }

  versions() {
    const { siblings, isFree } = this.state;
    if (siblings.length < 2) return null;
    const at = siblings.indexOf(this.message);
    const step = (label, name, n) => {
      const made = button(label, name, () => this.actions.show(siblings[n], label));
      made.disabled = !isFree || !siblings[n];
      return made;
    };
    const count = h("span", { class: "count" }, `${at + 1}/${siblings.length}`);
    return h(
      "span",
      { class: "versions", role: "group", "aria-label": `Version ${at + 1} of ${siblings.length}` },
      step("Previous version", "previous", at - 1),
      count,
      step("Next version", "next", at + 1),
    );
  }

  edit() {
    this.editor ??= new MessageEditor(this.message.content, {
      onSend: (text) => this.actions.edit(this.message, text),
      onClose: () => this.endEdit(),
    });
    this.editor.update(this.state.isFree);
    this.footer.hidden = true;
    this.body.replaceWith(this.editor.element);
    this.editor.field.focus();
  }

  endEdit() {
    this.editor.element.replaceWith(this.body);
    this.editor = null;
    this.footer.hidden = false;
    if (this.element.isConnected) // else another version has taken its place
      this.footer.querySelector('[aria-label="Edit this message"]')?.focus();
  }
}

// Whether a reply was cut within its text.
function canGoOn(message) {
  return message.content !== "" && !message.toolCalls?.length && isCut(message);
}

// What people and tools say: text as it is.
class PlainParts {
  constructor(view) {
    this.view = view;
    this.text = h("div", { class: "plain", dir: "auto" });
    if (view.message.role === "tool") {
      view.body.append(
        h("details", { class: "fold" }, h("summary", {}, "Result of a tool"), this.text),
      );
    } else {
      view.body.append(this.text);
    }
  }

  update() {
    setText(this.text, this.view.message.content);
  }
}

// A reply: reasoning, text, tool calls, and what went wrong.
class ReplyParts {
  constructor(view) {
    this.view = view;
    this.reasoning = new MarkdownView();
    this.summary = h("summary", {}, "Reasoning");
    this.fold = h(
      "details",
      { class: "fold reasoning", hidden: true },
      this.summary,
      this.reasoning.element,
    );
    this.markdown = new MarkdownView();
    this.waitingText = h("span", {});
    this.waiting = h("p", { class: "waiting" }, this.waitingText);
    this.calls = new ToolCallsView((results) => view.actions.answer(view.message, results));
    this.error = h("div", { class: "error", hidden: true });
    view.body.append(
      this.fold,
      this.markdown.element,
      this.calls.element,
      this.waiting,
      this.error,
    );
  }

  update(state) {
    const { message } = this.view;
    const { content, reasoning = "", toolCalls = [] } = message;
    this.fold.hidden = reasoning === "";
    setText(this.summary, state.isRunning && content === "" ? "Reasoning …" : "Reasoning");
    if (reasoning) this.reasoning.update(reasoning);
    this.markdown.update(content);
    this.calls.update(
      toolCalls,
      state.isLast && state.isFree && !isCut(message),
    );
    this.waiting.hidden = !(state.isRunning && !content && !reasoning && !toolCalls.length);
    this.waitingText.classList.toggle("hidden", !state.isLoading);
    const loading = `Loading ${message.model} …`;
    setText(this.waitingText, state.isLoading ? loading : "Waiting for the first token");
    this.updateError(message, state);
  }

  updateError(message, { isRunning, isFree, isLast }) {
    const text = isRunning ? "" : (message.error ?? "");
    this.error.hidden = text === "";
    const key = [text, isFree, isLast].join();
    if (key === this.errorKey) return;
    this.errorKey = key;
    const { actions } = this.view;
    const act = (label, action) =>
      h("button", { type: "button", onclick: () => action(this.view.message) }, label);
    this.error.replaceChildren(
      h("p", { dir: "auto" }, text),
      isFree && isLast && canGoOn(message) ? act("Continue", actions.goOn) : "",
      isFree ? act("Retry", actions.retry) : "",
    );
  }
}
