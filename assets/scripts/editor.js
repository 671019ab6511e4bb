// A file's editor: Markdown in colours over a field that goes on being what the form sends. `make css` puts this and
// CodeMirror together into clawhaven/web/static/editor.js. Without it the plain field stays.
import { defaultKeymap, history, historyKeymap, redo, redoDepth, undo, undoDepth } from "@codemirror/commands";
import { defineLanguageFacet, HighlightStyle, Language, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { GFM, parser } from "@lezer/markdown";

const markdown = new Language(defineLanguageFacet(), parser.configure(GFM), [], "markdown");

// The colours are the site's own, which reach into the shadow: its themes and the operator's brand come along.
const colours = HighlightStyle.define([
  { tag: tags.heading, color: "var(--primary)", fontWeight: "700" },
  { tag: [tags.processingInstruction, tags.contentSeparator, tags.comment], color: "var(--muted-foreground)" },
  { tag: tags.strong, fontWeight: "700" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: tags.strikethrough, textDecoration: "line-through" },
  { tag: [tags.link, tags.url], color: "var(--primary)" },
  { tag: tags.monospace, color: "var(--live)" },
  { tag: tags.quote, color: "var(--muted-foreground)", fontStyle: "italic" },
  { tag: [tags.labelName, tags.string, tags.character, tags.escape, tags.atom], color: "var(--warn)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", color: "var(--foreground)", fontSize: "inherit" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "inherit", lineHeight: "1.5", overflow: "auto" },
  ".cm-content": { padding: "0.55rem 0", caretColor: "var(--foreground)" },
  ".cm-line": { padding: "0 0.8rem" },
});

// A browser that writes over coloured words itself keeps their colour as an inline style, which the policy refuses.
const overwriting = EditorView.domEventHandlers({
  beforeinput(event, view) {
    if (event.inputType !== "insertText" || !event.data || view.composing || view.state.readOnly) return false;
    if (view.state.selection.ranges.every((range) => range.empty)) return false;
    event.preventDefault();
    view.dispatch(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
    return true;
  },
});

const field = document.getElementById("text");
if (field) {
  const form = field.form;
  const save = () => {
    if (!field.readOnly) form.requestSubmit(form.querySelector("button:not([name]):not([type=button])"));
    return true;
  };
  const isSave = (event) => event.key.toLowerCase() === "s" && (event.ctrlKey || event.metaKey) && !event.altKey;
  field.addEventListener("keydown", (event) => {
    if (!isSave(event)) return;
    event.preventDefault();
    save();
  });
  if (!field.readOnly) warn(form);
  // Only sheets made by scripts keep to a policy without inline styles, and only a shadow has them.
  if ("adoptedStyleSheets" in Document.prototype) dress(field, save);
}

/** Words that are not saved are not lost by leaving. */
function warn(form) {
  let isSending = false;
  form.addEventListener("submit", () => { isSending = true; });
  addEventListener("pageshow", () => { isSending = false; });
  addEventListener("beforeunload", (event) => {
    const isChanged = "unsaved" in field.dataset || field.value !== field.defaultValue;
    if (!isSending && isChanged) event.preventDefault();
  });
}

/** Put the editor in the field's place; what is typed goes into the field at once. */
function dress(field, save) {
  const label = field.labels[0];
  const host = document.createElement("div");
  host.className = "input code-editor";
  host.toggleAttribute("data-invalid", field.getAttribute("aria-invalid") === "true");
  host.toggleAttribute("data-readonly", field.readOnly);
  host.style.height = `${Math.max(field.offsetHeight, 120)}px`;
  const shadow = host.attachShadow({ mode: "open" });
  const about = document.createElement("p");
  about.id = "about";
  about.hidden = true;
  const told = (field.getAttribute("aria-describedby") || "").split(" ").concat("editor-keys");
  about.textContent = told.map((id) => document.getElementById(id)?.textContent.trim() || "").join(" ").trim();
  shadow.append(about);
  const attributes = {
    "aria-label": label.textContent.trim(),
    "aria-describedby": "about",
    spellcheck: "false",
    autocapitalize: "sentences",
  };
  if (field.required) attributes["aria-required"] = "true";
  if (field.readOnly) attributes["aria-readonly"] = "true";
  if (field.getAttribute("aria-invalid") === "true") attributes["aria-invalid"] = "true";

  const backs = [["[data-undo]", undo, undoDepth], ["[data-redo]", redo, redoDepth]].map(([which, act, depth]) => ({
    button: field.form.querySelector(which), act, depth,
  })).filter(({ button }) => button && !field.readOnly);
  const follow = (view) => {
    for (const { button, depth } of backs) button.setAttribute("aria-disabled", String(!depth(view.state)));
  };

  const view = new EditorView({
    root: shadow,
    parent: shadow,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        history(),
        keymap.of([{ key: "Mod-s", run: save, preventDefault: true }, ...defaultKeymap, ...historyKeymap]),
        markdown,
        syntaxHighlighting(colours),
        look,
        overwriting,
        EditorView.lineWrapping,
        EditorView.contentAttributes.of(attributes),
        EditorState.readOnly.of(field.readOnly),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          field.value = update.state.doc.toString();
          field.dispatchEvent(new Event("input", { bubbles: true }));
          follow(update.view);
        }),
      ],
    }),
  });

  field.hidden = true;
  field.after(host);
  label.addEventListener("click", (event) => {
    event.preventDefault();
    view.focus();
  });
  for (const { button, act } of backs) {
    button.addEventListener("click", () => {
      act(view);
      view.focus();
    });
  }
  follow(view);
  const bar = document.getElementById("editor-bar");
  if (bar) bar.hidden = false;
  // The list of what is wrong has a link to the field.
  document.addEventListener("click", (event) => {
    if (event.target.closest(`a[href="#${field.id}"]`)) view.focus();
  });
  // Some browsers put back what was typed only after scripts have begun.
  addEventListener("pageshow", () => {
    if (field.value === view.state.doc.toString()) return;
    view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: field.value } });
  });
}
