// Reads Markdown into blocks. Pure text work, linear in the length of the text, without HTML.

const MAX_DEPTH = 8; // of quotes and lists inside each other; what is deeper is a paragraph
const FENCE = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/; // all of its marks: no way to try again
const HEADING = /^ {0,3}(#{1,6})(?:\s(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const DELIMITER = /^:?-+:?$/;
const READERS = [readFence, readHeading, readRule, readQuote, readList, readTable];

// Returns a text without its last characters that are in a set. A pattern would take quadratic time.
export function withoutEnd(text, characters) {
  let end = text.length;
  while (end > 0 && characters.includes(text[end - 1])) end -= 1;
  return text.slice(0, end);
}

// Returns a list of blocks: {kind, …}, where kind is "heading", "paragraph", "code", "quote", "list",
// "table" or "rule".
export function readMarkdown(text) {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.replace(/^[ \t]+/, expandTabs));
  const blocks = readBlocks(lines, 0);
  setDepths(blocks, []);
  return blocks;
}

// Gives each heading its depth below the text: 1 for the first, and never two more than before.
// open: the levels of the headings that this part of the text is below.
function setDepths(blocks, open) {
  for (const block of blocks) {
    if (block.kind === "heading") {
      while (open.length && open.at(-1) >= block.level) open.pop();
      open.push(block.level);
      block.depth = open.length;
    }
    for (const part of block.items ?? [block]) setDepths(part.blocks ?? [], open);
  }
}

function expandTabs(space) {
  return space.replaceAll("\t", "    ");
}

function readBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = readBlock(lines, at, depth) ?? readParagraph(lines, at);
    blocks.push(block);
    at = end;
  }
  return blocks;
}

// Each reader returns its block and the number of the line after it, or null.
function readBlock(lines, at, depth) {
  for (const read of READERS) {
    const found = read(lines, at, depth);
    if (found) return found;
  }
  return null;
}

function readFence(lines, at) {
  const [, fence, info] = lines[at].match(FENCE) ?? [];
  if (!fence) return null;
  const indent = lines[at].indexOf(fence);
  const closes = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closes.test(lines[end])) end += 1;
  const text = lines
    .slice(at + 1, end)
    .map((line) => withoutIndent(line, indent))
    .join("\n");
  const language = info.trim().split(/\s/)[0];
  return [{ kind: "code", language, text, isOpen: end === lines.length }, end + 1];
}

function readHeading(lines, at) {
  const [, marks, text] = lines[at].match(HEADING) ?? [];
  return marks
    ? [{ kind: "heading", level: marks.length, text: headingText(text ?? "") }, at + 1]
    : null;
}

// Without the marks that may close a heading: “## Title ##”.
function headingText(text) {
  const trimmed = text.trim();
  const open = withoutEnd(trimmed, "#");
  return open === "" || open.endsWith(" ") ? open.trim() : trimmed;
}

function readRule(lines, at) {
  return RULE.test(lines[at]) ? [{ kind: "rule" }, at + 1] : null;
}

function readQuote(lines, at, depth) {
  if (depth >= MAX_DEPTH || !QUOTE.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || continuesText(lines, end))) end += 1;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", blocks: readBlocks(inside, depth + 1) }, end];
}

function readList(lines, at, depth) {
  const first = depth < MAX_DEPTH && lines[at].match(ITEM);
  if (!first) return null;
  const list = { kind: "list", isOrdered: isNumber(first[2]), start: parseInt(first[2], 10) || 0 };
  const items = [];
  let end = at;
  let isLoose = false;
  while (end < lines.length && belongsToList(lines[end], first)) {
    const item = readItem(lines, end, first[1].length);
    isLoose ||= item.isLoose;
    items.push(asItem(item.lines, depth));
    end = item.end;
  }
  return [{ ...list, isLoose, items }, end];
}

function isNumber(marker) {
  return marker.length > 1;
}

function belongsToList(line, first) {
  const item = line.match(ITEM);
  if (!item || RULE.test(line)) return false;
  return isNumber(item[2]) === isNumber(first[2]) && item[1].length < first[1].length + 2;
}

// Reads one item. Models indent what is inside by two spaces or more, whatever the marker's width.
function readItem(lines, at, indent) {
  const marker = lines[at].match(ITEM)[0];
  const inside = [lines[at].slice(marker.length)];
  let end = at + 1;
  while (end < lines.length && continuesItem(lines, end, indent)) {
    inside.push(withoutIndent(lines[end], marker.length));
    end += 1;
  }
  let blanks = 0;
  while (!inside.at(-1).trim() && inside.length > 1) {
    inside.pop();
    blanks += 1;
  }
  const isLoose =
    inside.some((line) => !line.trim()) || (blanks > 0 && ITEM.test(lines[end] ?? ""));
  return { lines: inside, end, isLoose };
}

function continuesItem(lines, at, indent) {
  const line = lines[at];
  if (!line.trim()) {
    const next = lines.slice(at + 1, at + 3).find((each) => each.trim());
    return next !== undefined && (indentOf(next) >= indent + 2 || ITEM.test(next));
  }
  return indentOf(line) >= indent + 2 || continuesText(lines, at);
}

// Whether a line only goes on with the paragraph before it.
function continuesText(lines, at) {
  return lines[at - 1].trim() !== "" && lines[at].trim() !== "" && !startsBlock(lines[at]);
}

function startsBlock(line) {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
}

function asItem(lines, depth) {
  const [, box, text] = lines[0].match(/^\[([ xX])\] +(.*)$/) ?? [];
  if (box === undefined) return { isChecked: null, blocks: readBlocks(lines, depth + 1) };
  return { isChecked: box !== " ", blocks: readBlocks([text, ...lines.slice(1)], depth + 1) };
}

function readTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-")) return null;
  const header = cellsOf(lines[at]);
  const delimiters = cellsOf(lines[at + 1]);
  if (header.length !== delimiters.length) return null;
  if (!delimiters.every((cell) => DELIMITER.test(cell))) return null;
  const aligns = delimiters.map(alignOf);
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  // Cells that a row lacks stay away: many short rows below a wide header would be a huge table.
  const rows = lines.slice(at + 2, end).map((line) => cellsOf(line).slice(0, aligns.length));
  return [{ kind: "table", aligns, header, rows }, end];
}

function cellsOf(line) {
  const inside = line
    .trim()
    .replace(/^\|/, "")
    .replace(/(?<!\\)\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignOf(cell) {
  if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
  return null;
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(lines, end)) end += 1;
  return [
    {
      kind: "paragraph",
      text: lines
        .slice(at, end)
        .map((line) => line.trimStart())
        .join("\n"),
    },
    end,
  ];
}

// A numbered line inside a paragraph is a list only if its number is 1: “in\n1984. That …” is text.
function interrupts(lines, at) {
  const item = lines[at].match(ITEM);
  if (item && isNumber(item[2]) && parseInt(item[2], 10) !== 1) return false;
  return startsBlock(lines[at]) || readTable(lines, at) !== null;
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function withoutIndent(line, width) {
  return line.slice(Math.min(width, indentOf(line)));
}
