// Shows Markdown as nodes. A text that grows keeps the nodes of the blocks that stay as they are.
import { copyButton } from "./clipboard.js";
import { withVisibleControls } from "./controls.js";
import { h, setText } from "./dom.js";
import { readMarkdown } from "./markdown_blocks.js";
import { isSafeLink, readInline } from "./markdown_inline.js";

const MAKERS = {
  code: codeNode,
  heading: headingNode,
  list: listNode,
  paragraph: paragraphNode,
  quote: quoteNode,
  rule: () => h("hr"),
  table: tableNode,
};
const codeTexts = new WeakMap(); // nodes of code → what they were made from
const TAGS = { em: "em", strong: "strong", del: "del" };

export class MarkdownView {
  constructor() {
    this.element = h("div", { class: "markdown" });
    this.text = "";
    this.shown = []; // {key, block, node} of each block
  }

  update(text) {
    if (text === this.text) return; // most messages of a conversation stay as they are
    this.text = text;
    const blocks = readMarkdown(text);
    blocks.forEach((block, n) => this.show(n, block));
    for (const { node } of this.shown.splice(blocks.length)) node.remove();
  }

  show(n, block) {
    const key = JSON.stringify(block);
    const old = this.shown[n];
    if (old?.key === key) return;
    if (
      old?.block.kind === "code" &&
      block.kind === "code" &&
      old.block.language === block.language
    ) {
      writeCode(old.node.querySelector("code"), block.text); // keeps its scroll position and focus
      this.shown[n] = { key, block, node: old.node };
      return;
    }
    const node = blockNode(block);
    if (old) old.node.replaceWith(node);
    else this.element.append(node);
    this.shown[n] = { key, block, node };
  }
}

function blockNode(block) {
  const node = MAKERS[block.kind](block);
  node.dir = "auto"; // each by itself: to find the direction of all of them takes quadratic time
  return node;
}

// Headings of a reply are below those of the page, which has one for each message.
function headingNode({ level, depth, text }) {
  return h(`h${Math.min(depth + 2, 6)}`, { class: `level-${level}` }, inlineNodes(text));
}

function paragraphNode({ text }) {
  return h("p", {}, inlineNodes(text));
}

function quoteNode({ blocks }) {
  return h("blockquote", {}, blocks.map(blockNode));
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

// Code that grows keeps its node: what is selected in it stays so, and the rest is quickly added.
function writeCode(code, text) {
  codeTexts.set(code, text);
  const shown = withVisibleControls(text);
  const before = code.firstChild?.data ?? "";
  if (before && shown.startsWith(before)) code.firstChild.appendData(shown.slice(before.length));
  else setText(code, shown);
}

function listNode({ isOrdered, start, isLoose, items }) {
  const nodes = items.map((item) => itemNode(item, isLoose));
  return isOrdered
    ? h("ol", { start: start === 1 ? null : String(start) }, nodes)
    : h("ul", {}, nodes);
}

function itemNode({ isChecked, blocks }, isLoose) {
  const children = blocks.flatMap((block) =>
    block.kind === "paragraph" && !isLoose ? inlineNodes(block.text) : [blockNode(block)],
  );
  if (isChecked === null) return h("li", {}, children);
  const box = h(
    "span",
    { class: "box", role: "img", "aria-label": isChecked ? "Done:" : "To do:" },
    isChecked ? "☑" : "☐",
  );
  return h("li", { class: "task" }, box, " ", children);
}

function tableNode({ aligns, header, rows }) {
  const cell = (tag, text, n) => {
    const scope = tag === "th" ? "col" : null;
    return h(tag, { scope, class: aligns[n] && `align-${aligns[n]}` }, inlineNodes(text));
  };
  const row = (tag, cells) => h("tr", {}, cells.map((text, n) => cell(tag, text, n)));
  const table = h(
    "table",
    {},
    h("thead", {}, row("th", header)),
    h("tbody", {}, rows.map((cells) => row("td", cells))),
  );
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, table);
}

function inlineNodes(text) {
  return readInline(text).map(inlineNode);
}

function inlineNode(node) {
  if (typeof node === "string") return node;
  if (node.kind === "code") return h("code", {}, node.text);
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
