// The options that people set. An option without a value is not sent: the server's default holds.

const EFFORTS = ["none", "low", "medium", "high"];

export const FIELDS = [
  {
    name: "temperature",
    label: "Temperature",
    kind: "number",
    min: 0,
    step: 0.05,
    hint: "0 always takes the most probable token",
  },
  {
    name: "top_p",
    label: "Top p",
    kind: "number",
    min: 0,
    max: 1,
    step: 0.01,
    hint: "smallest set of tokens with this probability",
  },
  {
    name: "top_k",
    label: "Top k",
    kind: "integer",
    min: 0,
    step: 1,
    hint: "this many most probable tokens",
  },
  {
    name: "min_p",
    label: "Min p",
    kind: "number",
    min: 0,
    max: 1,
    step: 0.01,
    hint: "tokens at least this probable, relative to the best",
  },
  {
    name: "max_completion_tokens",
    label: "Longest reply, in tokens",
    kind: "integer",
    min: 1,
    step: 1,
    hint: "with the reasoning",
  },
  {
    name: "seed",
    label: "Seed",
    kind: "integer",
    min: 0,
    step: 1,
    hint: "the same seed gives the same reply",
  },
  {
    name: "frequency_penalty",
    label: "Frequency penalty",
    kind: "number",
    min: -2,
    max: 2,
    step: 0.1,
    hint: "less of what was said often",
  },
  {
    name: "presence_penalty",
    label: "Presence penalty",
    kind: "number",
    min: -2,
    max: 2,
    step: 0.1,
    hint: "less of what was said at all",
  },
  {
    name: "reasoning_effort",
    label: "Reasoning effort",
    kind: "choice",
    choices: EFFORTS,
    hint: "for models whose template knows it",
  },
  {
    name: "stop",
    label: "Stop texts",
    kind: "lines",
    hint: "one a line; the reply ends before them",
  },
  {
    name: "tools",
    label: "Tools",
    kind: "json",
    hint: "a JSON list, as OpenAI's API takes it; you answer the calls",
  },
];

// Returns the value of a field's text, undefined if it is empty. Throws an Error for a bad value.
export function readField(field, text) {
  if (text.trim() === "") return undefined;
  if (field.kind === "choice") return readChoice(field, text);
  if (field.kind === "lines") return text.split("\n").filter((line) => line !== "");
  if (field.kind === "json") return readTools(field, text);
  return readNumber(field, text);
}

// Returns the text of a value, for its field.
export function writeField(field, value) {
  if (value === undefined) return "";
  if (field.kind === "lines") return value.join("\n");
  return field.kind === "json" ? JSON.stringify(value, null, 2) : String(value);
}

function readChoice(field, text) {
  if (field.choices.includes(text)) return text;
  throw new Error(`${field.label} is one of ${field.choices.join(", ")}.`);
}

function readNumber(field, text) {
  const value = Number(text);
  const isWhole = field.kind === "integer";
  const isInRange = value >= (field.min ?? -Infinity) && value <= (field.max ?? Infinity);
  if (isInRange && (isWhole ? Number.isSafeInteger(value) : Number.isFinite(value))) return value;
  const range =
    field.max === undefined ? `${field.min} or more` : `from ${field.min} to ${field.max}`;
  throw new Error(`${field.label} is a ${isWhole ? "whole number" : "number"}, ${range}.`);
}

function readTools(field, text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`${field.label}: this is not JSON (${error.message}).`);
  }
  if (Array.isArray(value) && value.every((tool) => typeof tool?.function?.name === "string"))
    return value;
  throw new Error(
    `${field.label} is a list of {"type": "function", "function": {"name": …, "parameters": …}}.`,
  );
}

// Returns the settings of an object from outside, without what no field knows. Throws an Error for a
// bad value.
export function checkSettings(values) {
  const settings = {};
  for (const field of FIELDS) {
    const value = Object.hasOwn(values, field.name) ? values[field.name] : undefined;
    if (value === undefined || value === null) continue;
    if (field.kind === "lines" && !isListOfTexts(value))
      throw new Error(`${field.label} is a list of texts.`);
    const checked = readField(field, writeField(field, value));
    if (checked !== undefined) settings[field.name] = checked;
  }
  return settings;
}

function isListOfTexts(value) {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
