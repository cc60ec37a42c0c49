// The form of the settings: it keeps what is valid, and says at each field what is not.
import { h } from "./dom.js";
import { FIELDS, readField, writeField } from "./settings.js";

export class SettingsForm {
  // onChange(settings): a valid value was given or removed.
  constructor(place, onChange, prefix = "setting") {
    this.settings = {};
    this.onChange = onChange;
    this.rows = FIELDS.map((field) => this.row(field, `${prefix}-${field.name}`));
    place.append(...this.rows.map((row) => row.element));
  }

  show(settings) {
    this.settings = { ...settings };
    for (const { field, input, problem } of this.rows) {
      input.value = writeField(field, settings[field.name]);
      this.showProblem(input, problem, "");
    }
  }

  row(field, id) {
    const input = inputOf(field, id);
    const hint = h("span", { class: "hint", id: `${id}-hint` }, field.hint);
    const problem = h("span", { class: "problem", id: `${id}-problem`, role: "alert" });
    const label = h("label", { for: id }, field.label);
    const row = {
      field,
      input,
      problem,
      element: h("div", { class: `field ${field.kind}` }, label, input, hint, problem),
    };
    input.addEventListener("input", () => this.read(row));
    return row;
  }

  read({ field, input, problem }) {
    try {
      const value = readField(field, input.validity.badInput ? "?" : input.value);
      const { [field.name]: _, ...others } = this.settings;
      this.settings = value === undefined ? others : { ...others, [field.name]: value };
      this.showProblem(input, problem, "");
      this.onChange(this.settings);
    } catch (error) {
      this.showProblem(input, problem, `${error.message} The value before is kept.`);
    }
  }

  showProblem(input, problem, text) {
    problem.textContent = text;
    input.setAttribute("aria-invalid", text ? "true" : "false");
  }
}

function inputOf(field, id) {
  const attributes = { id, "aria-describedby": `${id}-hint ${id}-problem` };
  if (field.kind === "choice") {
    const choices = field.choices.map((choice) => h("option", { value: choice }, choice));
    return h("select", attributes, h("option", { value: "" }, "not set"), ...choices);
  }
  if (field.kind === "lines" || field.kind === "json") {
    return h("textarea", { ...attributes, rows: "2", placeholder: "not set", spellcheck: "false" });
  }
  const { min, max, step } = field;
  return h("input", {
    ...attributes,
    type: "number",
    min,
    max,
    step,
    placeholder: "not set",
    inputmode: "decimal",
  });
}
