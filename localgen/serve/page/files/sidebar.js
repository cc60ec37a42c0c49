// The list of conversations: search, choose, rename, delete.
import { matchesQuery, titleOf } from "./conversation.js";
import { byId, h } from "./dom.js";
import { icon } from "./icons.js";

const MAX_SHOWN = 200; // the newest: each change of a conversation makes the list again

export class Sidebar {
  // actions: {open(conversation), rename(conversation, title), remove(conversation)}.
  constructor(library, actions) {
    this.library = library;
    this.actions = actions;
    this.search = byId("search");
    this.list = byId("conversations");
    this.isRenaming = false;
    this.search.addEventListener("input", () => this.show(this.currentId));
  }

  show(currentId) {
    this.currentId = currentId;
    if (this.isRenaming) return; // what is being written stays
    const found = this.library.sorted.filter((each) => matchesQuery(each, this.search.value));
    this.list.replaceChildren(...found.slice(0, MAX_SHOWN).map((each) => this.row(each)));
    byId("none-found").hidden = found.length > 0 && found.length <= MAX_SHOWN;
    byId("none-found").textContent = this.hint(found.length);
  }

  hint(nFound) {
    if (nFound > MAX_SHOWN) return `${MAX_SHOWN} of ${nFound} are shown: search for the others.`;
    return this.search.value ? "No conversation has these words." : "No conversations yet.";
  }

  row(conversation) {
    const title = titleOf(conversation);
    const isCurrent = conversation.id === this.currentId;
    const open = h(
      "button",
      {
        type: "button",
        class: "open",
        dir: "auto",
        "aria-current": isCurrent ? "page" : null,
        onclick: () => this.actions.open(conversation),
      },
      title,
    );
    const row = h("li", { class: isCurrent ? "current" : null }, open);
    const act = (label, name, action) =>
      h(
        "button",
        {
          type: "button",
          class: "quiet-button",
          title: label,
          "aria-label": `${label}: ${title}`,
          onclick: action,
        },
        icon(name),
      );
    row.append(
      act("Rename", "edit", () => this.rename(row, conversation)),
      act("Delete", "trash", () => this.actions.remove(conversation)),
    );
    return row;
  }

  rename(row, conversation) {
    const field = h("input", {
      "aria-label": "Title of the conversation",
      maxlength: "200",
      dir: "auto",
    });
    field.value = titleOf(conversation);
    this.isRenaming = true;
    const end = (isKept) => {
      field.onblur = null;
      this.isRenaming = false;
      if (isKept) this.actions.rename(conversation, field.value.trim());
      this.show(this.currentId);
      this.list.querySelector("[aria-current]")?.focus();
    };
    field.onblur = () => end(true);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    row.replaceChildren(field);
    field.select();
  }
}
