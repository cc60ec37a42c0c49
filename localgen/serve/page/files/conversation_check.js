// Conversations from a file: only what has the right form gets in, and under new ids.
import { withoutControls } from "./controls.js";
import { newId } from "./dom.js";
import { checkSettings } from "./settings.js";

export const FORMAT = "localgen-conversations";
const MAX_CONVERSATIONS = 10_000;
const MAX_MESSAGES = 10_000;
const MAX_CALLS = 10_000;
const MAX_NAME = 1000; // characters
const ROLES = ["user", "assistant", "tool"];

export function exportText(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

// Returns the conversations of an exported text. Throws an Error that says what is wrong with it.
export function importText(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new Error(`This file is not JSON (${error.message}).`);
  }
  try {
    return checkFile(file);
  } catch (error) {
    if (error instanceof RangeError) throw new Error("This file is nested too deeply.");
    throw error;
  }
}

function checkFile(file) {
  if (file?.format !== FORMAT) throw new Error("This file was not exported from this page.");
  if (file.version !== 1)
    throw new Error(`This file has version ${shown(file.version)}; this page reads version 1.`);
  return list(file.conversations, "conversations", MAX_CONVERSATIONS).map(checkConversation);
}

function checkConversation(value, n) {
  const where = `conversation ${n + 1}`;
  const source = object(value, where);
  const ids = new Map();
  const messages = list(source.messages, `messages of ${where}`, MAX_MESSAGES);
  const checked = messages.map((message, m) =>
    checkMessage(message, `message ${m + 1} of ${where}`, ids),
  );
  return {
    id: newId(),
    title: text(source.title, `title of ${where}`).slice(0, 200),
    created: time(source.created, where),
    updated: time(source.updated, where),
    model: name(source.model, `model of ${where}`),
    system: text(source.system, `system prompt of ${where}`),
    settings: checkSettings(object(source.settings ?? {}, `settings of ${where}`)),
    leaf: reference(source.leaf, ids, `leaf of ${where}`),
    messages: checked,
  };
}

// A parent comes before its children, so there is no circle.
function checkMessage(value, where, ids) {
  const source = object(value, where);
  if (!ROLES.includes(source.role))
    throw new Error(`${where}: role is ${shown(source.role)}, not one of ${ROLES.join(", ")}.`);
  const parent = reference(source.parent ?? null, ids, `parent of ${where}`);
  const oldId = text(source.id, `id of ${where}`);
  if (oldId === "" || ids.has(oldId))
    throw new Error(`id of ${where}: ${shown(oldId)} is empty or used twice.`);
  ids.set(oldId, newId());
  return {
    id: ids.get(oldId),
    parent,
    created: time(source.created, where),
    role: source.role,
    content: text(source.content, `content of ${where}`),
    ...(source.role === "assistant" ? checkReply(source, where) : {}),
    ...(source.role === "tool"
      ? { toolCallId: text(source.toolCallId, `toolCallId of ${where}`) }
      : {}),
  };
}

function checkReply(source, where) {
  const calls = list(source.toolCalls ?? [], `toolCalls of ${where}`, MAX_CALLS);
  return {
    model: name(source.model ?? "", `model of ${where}`),
    reasoning: text(source.reasoning ?? "", `reasoning of ${where}`),
    toolCalls: calls.map((call) => checkCall(object(call, `toolCalls of ${where}`), where)),
    finishReason: optional(name, source.finishReason, `finishReason of ${where}`),
    error: optional(text, source.error, `error of ${where}`),
    usage: checkUsage(source.usage, where),
    speed: optionalNumber(source.speed, `speed of ${where}`),
    wait: optionalNumber(source.wait, `wait of ${where}`),
  };
}

function checkCall(call, where) {
  const field = (name) => text(call[name], `${name} of a call of ${where}`);
  return { id: field("id"), name: field("name"), arguments: field("arguments") };
}

function checkUsage(value, where) {
  if (value === null || value === undefined) return null;
  const usage = object(value, `usage of ${where}`);
  const field = (name) => count(usage[name] ?? 0, `${name} of ${where}`);
  return { prompt_tokens: field("prompt_tokens"), completion_tokens: field("completion_tokens") };
}

function object(value, where) {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new Error(`${where}: expected an object, found ${shown(value)}.`);
}

function list(value, where, max) {
  if (!Array.isArray(value)) throw new Error(`${where}: expected a list, found ${shown(value)}.`);
  if (value.length > max) throw new Error(`${where}: ${value.length} are more than ${max}.`);
  return value;
}

function text(value, where) {
  if (typeof value === "string") return value;
  throw new Error(`${where}: expected a text, found ${shown(value)}.`);
}

// What is shown within a line.
function name(value, where) {
  const found = withoutControls(text(value, where));
  if (found.length <= MAX_NAME) return found;
  throw new Error(`${where}: ${found.length} characters are more than ${MAX_NAME}.`);
}

function optional(check, value, where) {
  return value === null || value === undefined ? null : check(value, where);
}

function count(value, where) {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`${where}: expected a whole number of 0 or more, found ${shown(value)}.`);
}

function optionalNumber(value, where) {
  if (value === null || value === undefined) return null;
  if (Number.isFinite(value) && value >= 0) return value;
  throw new Error(`${where}: expected a number of 0 or more, found ${shown(value)}.`);
}

// A time that is still to come would keep a conversation at the top of the list.
function time(value, where) {
  const now = Date.now();
  return Math.min(optionalNumber(value, `time of ${where}`) ?? now, now);
}

function reference(value, ids, where) {
  if (value === null || value === undefined) return null;
  if (ids.has(value)) return ids.get(value);
  throw new Error(`${where}: there is no message ${shown(value)} before it.`);
}

function shown(value) {
  const written = JSON.stringify(value) ?? "nothing";
  return written.length > 40 ? `${written.slice(0, 39)}…` : written;
}
