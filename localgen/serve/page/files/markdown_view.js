// Shows Markdown as nodes. A text that grows keeps the nodes of the blocks that stay as they are.
import { Children } from "./children.js";
import { copyButton } from "./clipboard.js";
import { withVisibleControls } from "./controls.js";
import { setDirection } from "./direction.js";
import { h } from "./dom.js";
import { readMarkdown } from "./markdown_blocks.js";
import { isSafeLink, readInline } from "./markdown_inline.js";

const MAKERS = {
  code: codeNode,
  heading: headingNode,
  item: itemNode,
  list: listNode,
  paragraph: paragraphNode,
  quote: quoteNode,
  rule: () => h("hr"),
  table: tableNode,
};
// Change a node in place and return true, or return false.
const GROWERS = {
  code: growCode,
  item: (node, before, item) => before.isChecked === item.isChecked && grow(node, partsOfItem(item)),
  list: (node, before, list) => isSameList(before, list) && grow(node, itemsOf(list)),
  paragraph: (node, _, { text }) => grow(node, readInline(text)),
  quote: (node, _, { blocks }) => grow(node, blocks),
  table: growTable,
};
const TAGS = { em: "em", strong: "strong", del: "del" };
const childrenOf = new WeakMap(); // nodes that grow → their Children
const codeTexts = new WeakMap(); // nodes of code → what they were made from

export class MarkdownView {
  constructor() {
    this.element = h("div", { class: "markdown" });
    this.text = "";
    this.blocks = new Children(this.element, partNode, growPart);
  }

  update(text) {
    if (text === this.text) return; // most messages of a conversation stay as they are
    this.text = text;
    this.blocks.update(readMarkdown(text));
  }
}

// A part is a block, an item of a list, or something inside a paragraph.
function partNode(part) {
  return MAKERS[part.kind] ? blockNode(part) : inlineNode(part);
}

function growPart(node, before, part) {
  if (typeof before === "string" && typeof part === "string") return growText(node, part);
  const isGrown = before.kind === part.kind && GROWERS[part.kind]?.(node, before, part);
  if (isGrown && part.kind !== "item") setDirection(node);
  return isGrown ?? false;
}

function withChildren(node, parts) {
  childrenOf.set(node, new Children(node, partNode, growPart));
  grow(node, parts);
  return node;
}

function grow(node, parts) {
  childrenOf.get(node).update(parts);
  return true;
}

function growText(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
  return true;
}

function blockNode(block) {
  const node = MAKERS[block.kind](block);
  if (block.kind !== "item") setDirection(node);
  return node;
}

// Headings of a reply are below those of the page, which has one for each message.
function headingNode({ level, depth, text }) {
  return h(`h${Math.min(depth + 2, 6)}`, { class: `level-${level}` }, inlineNodes(text));
}

function paragraphNode({ text }) {
  return withChildren(h("p"), readInline(text));
}

function quoteNode({ blocks }) {
  return withChildren(h("blockquote"), blocks);
}

function codeNode({ language, text }) {
  const code = h("code");
  writeCode(code, text);
  const copy = copyButton("Copy this code", () => codeTexts.get(code));
  const bar = h("div", { class: "code-bar" }, h("span", {}, language || "text"), copy);
  const label = language ? `Code, ${language}` : "Code";
  return h(
    "div",
    { class: "code" },
    bar,
    h("pre", { tabindex: "0", role: "region", "aria-label": label, dir: "ltr" }, code),
  );
}

function growCode(node, before, { language, text }) {
  if (before.language !== language) return false;
  writeCode(node.querySelector("code"), text);
  return true;
}

function writeCode(code, text) {
  codeTexts.set(code, text);
  const shown = withVisibleControls(text);
  if (code.firstChild) growText(code.firstChild, shown);
  else code.append(shown);
}

function listNode(list) {
  const start = list.start === 1 ? null : String(list.start);
  return withChildren(list.isOrdered ? h("ol", { start }) : h("ul"), itemsOf(list));
}

function itemsOf({ items, isLoose }) {
  return items.map((item) => ({ ...item, kind: "item", isLoose }));
}

function isSameList(one, other) {
  return ["isOrdered", "start", "isLoose"].every((name) => one[name] === other[name]);
}

function itemNode(item) {
  const { isChecked } = item;
  if (isChecked === null) return withChildren(h("li"), partsOfItem(item));
  const box = h(
    "span",
    { class: "box", role: "img", "aria-label": isChecked ? "Done:" : "To do:" },
    isChecked ? "☑" : "☐",
  );
  return withChildren(h("li", { class: "task" }, box, " "), partsOfItem(item));
}

function partsOfItem({ blocks, isLoose }) {
  return blocks.flatMap((block) =>
    block.kind === "paragraph" && !isLoose ? readInline(block.text) : [block],
  );
}

function tableNode({ aligns, header, rows }) {
  const cell = (tag, text, n) => {
    const scope = tag === "th" ? "col" : null;
    return h(tag, { scope, class: aligns[n] && `align-${aligns[n]}` }, inlineNodes(text));
  };
  const row = (tag, cells) => h("tr", {}, cells.map((text, n) => cell(tag, text, n)));
  const body = h("tbody");
  const table = h("table", {}, h("thead", {}, row("th", header)), body);
  const frame = { class: "table", tabindex: "0", role: "region", "aria-label": "Table" };
  const node = h("div", frame, table);
  childrenOf.set(node, new Children(body, (cells) => row("td", cells)));
  grow(node, rows);
  return node;
}

function growTable(node, before, { aligns, header, rows }) {
  const isSame = JSON.stringify([before.aligns, before.header]) === JSON.stringify([aligns, header]);
  return isSame && grow(node, rows);
}

function inlineNodes(text) {
  return readInline(text).map(inlineNode);
}

function inlineNode(node) {
  if (typeof node === "string") return document.createTextNode(node);
  if (node.kind === "codespan") return h("code", {}, node.text);
  if (node.kind === "break") return h("br");
  const children = node.children.map(inlineNode);
  return node.kind === "link"
    ? linkNode(node.address, children)
    : h(TAGS[node.kind], {}, children);
}

function linkNode(address, children) {
  if (!isSafeLink(address))
    return h("span", { class: "unsafe-link", title: `Not a link: ${address}` }, children);
  return h(
    "a",
    { href: address, rel: "noopener noreferrer nofollow", target: "_blank" },
    children,
  );
}
