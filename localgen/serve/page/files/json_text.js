// JSON with line breaks. It is not parsed: that would round large numbers and drop repeated names.
const TOKENS = /"(?:[^"\\]|\\.)*"?|[[\]{},:]|[^\s"[\]{},:]+/gs;
const MAX_INDENT = 20; // deeper, its indents would be longer than its text

// Returns JSON, complete or not, with one value a line; a text that is no object or list, or that is
// nested too deeply, as it is.
export function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  let written = "";
  let depth = 0;
  let before = "";
  for (const [token] of text.matchAll(TOKENS)) {
    if ("]}".includes(token)) depth -= 1;
    if (needsBreak(before, token)) written += `\n${"  ".repeat(Math.max(depth, 0))}`;
    written += token === ":" ? ": " : token;
    if ("[{".includes(token)) depth += 1;
    if (depth > MAX_INDENT) return text;
    before = token;
  }
  return written;
}

function needsBreak(before, token) {
  if (before === "" || before === ":" || token === "," || token === ":") return false;
  const isEmpty = "[{".includes(before) && "]}".includes(token);
  return !isEmpty && ("[{,".includes(before) || "]}".includes(token));
}
