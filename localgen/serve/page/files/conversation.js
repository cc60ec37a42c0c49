// A conversation: a tree of messages, of which one branch is shown. Plain data and functions on it.
import { withoutControls } from "./controls.js";
import { newId } from "./dom.js";

// leaf: the id of the last message of the branch that is shown, or null.
export function newConversation({ model = "", system = "", settings = {} } = {}) {
  const now = Date.now();
  return {
    id: newId(),
    title: "",
    created: now,
    updated: now,
    model,
    system,
    settings,
    leaf: null,
    messages: [],
  };
}

// Adds a message after another one (null: at the start) and shows its branch.
export function addMessage(conversation, parent, message) {
  const added = { id: newId(), parent, created: Date.now(), content: "", ...message };
  conversation.messages.push(added);
  conversation.leaf = added.id;
  return added;
}

export function findMessage(conversation, id) {
  return conversation.messages.find((message) => message.id === id) ?? null;
}

// Returns the messages from the first one to the given one, by default those that are shown.
export function branchOf(conversation, leaf = conversation.leaf) {
  const byId = new Map(conversation.messages.map((message) => [message.id, message]));
  const branch = [];
  for (let message = byId.get(leaf); message; message = byId.get(message.parent))
    branch.push(message);
  return branch.reverse();
}

// Returns the versions of a message, itself included, oldest first.
export function siblingsOf(conversation, message) {
  return conversation.messages.filter((each) => each.parent === message.parent);
}

// Shows the branch of a message, down to what was last said there.
export function showBranch(conversation, message) {
  let leaf = message;
  for (
    let next = leaf;
    next;
    next = conversation.messages.findLast((each) => each.parent === leaf.id)
  )
    leaf = next;
  conversation.leaf = leaf.id;
}

export function titleOf(conversation) {
  return withoutControls(conversation.title || firstLine(conversation)) || "New conversation";
}

function firstLine(conversation) {
  const first = branchOf(conversation).find((message) => message.role === "user");
  const [line] = first?.content.trimStart().slice(0, 200).split(/[\r\n]/) ?? [""];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line.trimEnd();
}

// Whether each word of a query occurs in the title or in any message.
export function matchesQuery(conversation, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const texts = [titleOf(conversation), ...conversation.messages.map((message) => message.content)];
  const all = texts.join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
}
