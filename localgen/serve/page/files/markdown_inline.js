// Reads the inside of a paragraph: emphasis, code and links. Pure text work, linear, without HTML.
import { withoutEnd } from "./markdown_blocks.js";

const MAX_OPEN = 16; // emphasis inside emphasis; marks beyond are text
const CODE = /`+/y;
const MARKS = /\*{1,3}|_{1,3}|~~/y;
const ADDRESS = /https?:\/\/[^\s<>"'`]+/y;
const ESCAPE = /\\[\\`*_#+\-.!|>~<\n]/y;
const SPACES = / +/y;
const PLAIN = /[^\\`*_~[\]!<h\n ]+/y;
const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i;

// Returns a list of nodes: strings, {kind: "codespan" or "break", …}, and {kind, children, …}, where kind is
// "em", "strong", "del" or "link".
export function readInline(text, { hasLinks = true } = {}) {
  return new InlineReader(text, hasLinks).read();
}

// Whether an address may be a link: a page elsewhere or a mail, never a script.
export function isSafeLink(address) {
  return SAFE_LINK.test(address);
}

class InlineReader {
  constructor(text, hasLinks) {
    this.text = text;
    this.at = 0;
    this.hasLinks = hasLinks;
    this.closing = hasLinks ? closingBrackets(text) : new Map();
    this.unclosedCode = new Set();
    this.frames = [{ mark: "", count: 0, children: [] }]; // emphasis that is open, outermost first
  }

  read() {
    while (this.at < this.text.length) this.readNext();
    this.flatten(0);
    return this.frames[0].children;
  }

  readNext() {
    const found =
      this.readCode() ||
      this.readSpaces() ||
      this.readEscape() ||
      this.readLink() ||
      this.readAddress() ||
      this.readMarks();
    if (found) return;
    this.push(this.take(PLAIN) ?? this.text[this.at++]);
  }

  // Returns what a pattern matches here, and moves behind it.
  take(pattern) {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.text);
    if (!match) return null;
    this.at = pattern.lastIndex;
    return match[0];
  }

  push(node) {
    const { children } = this.frames.at(-1);
    if (typeof node === "string" && typeof children.at(-1) === "string") {
      children[children.length - 1] += node;
    } else {
      children.push(node);
    }
    return true;
  }

  readCode() {
    const ticks = this.take(CODE);
    if (!ticks) return false;
    const end = this.endOfCode(ticks);
    if (end === -1) return this.push(ticks);
    const code = this.text.slice(this.at, end).replaceAll("\n", " ");
    this.at = end + ticks.length;
    const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
    return this.push({ kind: "codespan", text: isPadded ? code.slice(1, -1) : code });
  }

  // Remembers which number of ticks is never closed, so that no text is searched again and again.
  endOfCode(ticks) {
    if (this.unclosedCode.has(ticks.length)) return -1;
    const runs = /`+/g;
    runs.lastIndex = this.at;
    for (let match = runs.exec(this.text); match; match = runs.exec(this.text)) {
      if (match[0].length === ticks.length) return match.index;
    }
    this.unclosedCode.add(ticks.length);
    return -1;
  }

  // Two spaces before the end of a line break it.
  readSpaces() {
    const spaces = this.take(SPACES);
    if (!spaces) return false;
    if (spaces.length < 2 || this.text[this.at] !== "\n") return this.push(spaces);
    this.at += 1;
    return this.push({ kind: "break" });
  }

  readEscape() {
    const escape = this.take(ESCAPE);
    return escape !== null && this.push(escape[1] === "\n" ? { kind: "break" } : escape[1]);
  }

  // [text](address "title"), and images, which become links: a page never fetches what a model names.
  readLink() {
    const start = this.text.startsWith("![", this.at) ? this.at + 1 : this.at;
    const end = this.closing.get(start);
    if (end === undefined || this.text[end + 1] !== "(") return false;
    const target = /\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:\s+["'][^"'\n]*["'])?\s*\)/y;
    target.lastIndex = end + 1;
    const match = target.exec(this.text);
    if (!match) return false;
    const children = readInline(this.text.slice(start + 1, end), { hasLinks: false });
    this.at = target.lastIndex;
    return this.push({ kind: "link", address: match[1], children });
  }

  readAddress() {
    if (!this.hasLinks || /\w/.test(this.text[this.at - 1] ?? "")) return false;
    const address = this.take(ADDRESS);
    if (!address) return false;
    const end = withoutEnd(address, ".,;:!?*_~)]}");
    this.at -= address.length - end.length;
    return this.push({ kind: "link", address: end, children: [end] });
  }

  readMarks() {
    const before = this.text[this.at - 1] ?? " ";
    const marks = this.take(MARKS);
    if (!marks) return false;
    const after = this.text[this.at] ?? " ";
    const { canOpen, canClose } = sidesOf(marks[0], before, after);
    let count = marks.length;
    if (canClose) count = this.close(marks[0], count);
    if (count === 0) return true;
    if (!canOpen || this.frames.length > MAX_OPEN) return this.push(marks[0].repeat(count));
    this.frames.push({ mark: marks[0], count, children: [] });
    return true;
  }

  // Ends the emphasis that these marks close; returns how many marks are left.
  close(mark, marks) {
    let count = marks;
    while (count > 0) {
      const index = this.frames.findLastIndex((frame) => frame.mark === mark);
      if (index === -1) return count;
      this.flatten(index);
      const frame = this.frames.at(-1);
      const used = Math.min(2, count, frame.count);
      const node = { kind: kindOf(mark, used), children: frame.children };
      count -= used;
      frame.count -= used;
      if (frame.count > 0) {
        frame.children = [node];
      } else {
        this.frames.pop();
        this.push(node);
      }
    }
    return 0;
  }

  // Makes text of the marks that were opened after this frame and never closed.
  flatten(index) {
    for (const frame of this.frames.splice(index + 1)) {
      this.push(frame.mark.repeat(frame.count));
      for (const child of frame.children) this.push(child);
    }
  }
}

function kindOf(mark, count) {
  if (mark === "~") return "del";
  return count === 2 ? "strong" : "em";
}

// Underscores inside a word are part of it; other marks open before a text and close after one.
function sidesOf(mark, before, after) {
  const opens =
    !/\s/.test(after) && (!/[\p{P}\p{S}]/u.test(after) || /[\s\p{P}\p{S}]/u.test(before));
  const closes =
    !/\s/.test(before) && (!/[\p{P}\p{S}]/u.test(before) || /[\s\p{P}\p{S}]/u.test(after));
  if (mark !== "_") return { canOpen: opens, canClose: closes };
  const isWord = (character) => /[\p{L}\p{N}]/u.test(character);
  return { canOpen: opens && !isWord(before), canClose: closes && !isWord(after) };
}

// Maps the place of each "[" to that of its "]".
function closingBrackets(text) {
  const closing = new Map();
  const open = [];
  for (const match of text.matchAll(/\\.|[[\]]/gs)) {
    if (match[0] === "[") open.push(match.index);
    else if (match[0] === "]" && open.length) closing.set(open.pop(), match.index);
  }
  return closing;
}
