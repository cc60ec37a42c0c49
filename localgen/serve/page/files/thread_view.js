// Shows the branch of a conversation, and keeps its end in sight while a reply grows.
import { branchOf, siblingsOf } from "./conversation.js";
import { byId, setText } from "./dom.js";
import { MessageView } from "./message_view.js";

const NEAR = 80; // pixels from the end that count as at the end

export class ThreadView {
  constructor(actions) {
    this.actions = actions;
    this.frame = byId("thread");
    this.list = byId("messages");
    this.views = new Map();
    this.isAtEnd = true;
    this.frame.addEventListener("scroll", () => this.noteScroll());
    byId("to-end").addEventListener("click", () => this.scrollToEnd());
    const observer = new ResizeObserver(() => this.follow()); // a phone is turned, its keys appear
    observer.observe(this.frame);
  }

  // Shows a conversation from the start, or what changed in the one that is shown. isBusy: its reply
  // comes in another tab.
  show(conversation, run, isBusy) {
    if (this.conversation?.id !== conversation.id) this.clear();
    this.conversation = conversation;
    this.isBusy = isBusy;
    const branch = branchOf(conversation);
    byId("welcome").hidden = branch.length > 0;
    this.showSystem(conversation.system);
    const elements = branch.map((message) => this.viewOf(message).element);
    elements.forEach((element, n) => {
      if (this.list.children[n] !== element)
        this.list.insertBefore(element, this.list.children[n] ?? null);
    });
    while (this.list.children.length > elements.length) this.list.lastChild.remove();
    const versions = Map.groupBy(conversation.messages, ({ parent }) => parent);
    branch.forEach((message, n) =>
      this.update(message, versions.get(message.parent), run, n === branch.length - 1),
    );
    this.follow();
  }

  showSystem(system) {
    byId("system-shown").hidden = system.trim() === "";
    setText(byId("system-text"), system);
  }

  clear() {
    this.views.clear();
    this.list.replaceChildren();
    this.isAtEnd = true;
  }

  viewOf(message) {
    const known = this.views.get(message.id);
    if (known) {
      known.message = message; // the same one, as another tab wrote it
      return known;
    }
    const made = new MessageView(message, this.actions);
    this.views.set(message.id, made);
    return made;
  }

  update(message, siblings, run, isLast) {
    const isHere = run?.message === message;
    const isElsewhere = this.isBusy && isLast && message.role === "assistant";
    this.viewOf(message).update({
      siblings,
      isRunning: isHere || isElsewhere,
      isLoading: isHere && run.isLoading,
      isLast,
      isFree: !run && !this.isBusy,
    });
  }

  // Shows what came for the reply that is on its way, and nothing else.
  grow(run) {
    this.update(run.message, siblingsOf(this.conversation, run.message), run, true);
    this.follow();
  }

  blocksOf(message) {
    return [...this.viewOf(message).parts.markdown.element.children];
  }

  // Focuses the button with this label that steps through the versions of a message.
  focusVersions(message, label) {
    const { element } = this.viewOf(message);
    const buttons = [...element.querySelectorAll(".versions button")];
    (buttons.find((each) => each.title === label && !each.disabled) ?? element).focus();
  }

  // A scroll that follows from another size is nobody's wish to leave the end.
  noteScroll() {
    if (this.isAtEnd && this.size !== this.sizeNow) return this.follow();
    const { scrollHeight, scrollTop, clientHeight } = this.frame;
    this.isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    byId("to-end").hidden = this.isAtEnd;
  }

  follow() {
    this.size = this.sizeNow;
    if (this.isAtEnd) this.frame.scrollTop = this.frame.scrollHeight;
    else this.noteScroll();
  }

  get sizeNow() {
    return `${this.frame.scrollHeight} ${this.frame.clientHeight}`;
  }

  scrollToEnd() {
    this.isAtEnd = true;
    this.follow();
    byId("to-end").hidden = true;
  }
}
