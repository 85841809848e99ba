"use strict";
// Texts of the data enter the page through textContent alone: whatever they hold stays text.
(() => {
  const ROW = 64;
  const MOST_CELLS = 4e6; // of the table that compares two texts; above it they are shown unmarked
  const ANSWERS = ["yes", "no", "maybe"];
  const get = id => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const pairs = data.pairs, sources = data.sources, soft = new Set(data.soft);
  const STORE = "medslm-review:" + location.pathname;

  // decisions by pair id: {verdict, note}; `before` are those of data/review.jsonl
  // `begun` are notes on pairs that are not decided yet
  const before = new Map(), decided = new Map(), begun = new Map();
  for (const pair of pairs) {
    if (pair.verdict) before.set(pair.id, {verdict: pair.verdict, note: pair.note});
  }
  for (const [id, said] of before) decided.set(id, said);

  let view = [], at = 0, current = null, stored = true;

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter(child => child !== null));
    return element;
  }

  // ---- decisions ----

  function restore() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(STORE) || "{}");
    } catch { stored = false; }
    let count = 0;
    for (const pair of pairs) {
      const draft = Object.hasOwn(kept, pair.id) ? kept[pair.id] : null;
      if (!draft || draft.content !== pair.content || !["keep", "drop", "clear"].includes(draft.verdict)) continue;
      const was = before.get(pair.id), note = String(draft.note || "");
      if (draft.verdict === (was?.verdict ?? "clear") && note === (was?.note ?? "")) continue;
      if (draft.verdict === "clear") decided.delete(pair.id);
      else decided.set(pair.id, {verdict: draft.verdict, note});
      count += 1;
    }
    if (count) say(`${count} decision(s) of an earlier visit are back.`);
  }

  function lines() {
    const found = [];
    for (const pair of pairs) {
      const said = decided.get(pair.id);
      if (said) found.push({content: pair.content, note: said.note, pair_id: pair.id, verdict: said.verdict});
      else if (before.has(pair.id)) found.push({content: pair.content, note: "", pair_id: pair.id, verdict: "clear"});
    }
    return found;
  }

  function save() {
    const drafts = {};
    for (const {pair_id, ...rest} of lines()) drafts[pair_id] = rest;
    try {
      localStorage.setItem(STORE, JSON.stringify(drafts));
    } catch { stored = false; }
  }

  // what `medslm review --import` would refuse in a note is left out here already
  const plain = text => text.toWellFormed().replace(/[^\P{C}\n\t]|[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufffd\ufe00-\ufe0f]/gu, "").trim();

  function decide(verdict) {
    if (!current) return;
    const note = plain(get("note").value);
    decided.set(current.id, {verdict, note});
    save();
    const locked = verdict === "keep" ? current.reasons.filter(reason => !soft.has(reason) && reason !== data.own) : [];
    say(locked.length
      ? `Noted, but a keep does not lift: ${locked.map(words).join(", ")}.`
      : `${verdict === "keep" ? "Kept" : "Dropped"}: ${current.id}`);
    const index = at;
    filter();
    go(view[index] === current ? index + 1 : index);
  }

  function undo() {
    if (!current || !decided.delete(current.id)) return;
    save();
    say(`Undecided again: ${current.id}`);
    filter();
    go(at);
  }

  function takeNote() {
    const said = current && decided.get(current.id);
    if (!said) return current && begun.set(current.id, get("note").value);
    decided.set(current.id, {verdict: said.verdict, note: plain(get("note").value)});
    save();
  }

  function exportAll() {
    const found = lines();
    if (!found.length) return say("Nothing is decided yet.");
    const text = found.map(line => JSON.stringify(line) + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "application/jsonl"}));
    link.download = "review.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`${found.length} decision(s) saved as review.jsonl; now: medslm review --import review.jsonl`);
  }

  // ---- filters ----

  const words = name => name.replaceAll("_", " ");
  const vote = pair => !pair.votes ? "none" : !pair.voted ? "abstained" : pair.voted === pair.answer ? "agrees" : "disagrees";
  const decision = pair => decided.get(pair.id)?.verdict ?? (pair.outdated ? "changed since" : "undecided");
  const FILTERS = [
    ["kept", "check says", pair => [pair.kept ? "kept" : "dropped"]],
    ["decision", "decision", pair => [decision(pair)]],
    ["reason", "reason", pair => pair.reasons],
    ["ask", "ask", pair => [pair.ask]],
    ["teacher", "teacher", pair => [pair.teacher]],
    ["strategy", "strategy", pair => [pair.strategy]],
    ["label", "label", pair => [pair.answer]],
    ["vote", "vote", pair => [vote(pair)]],
  ];

  function buildFilters() {
    for (const [name, title, of] of FILTERS) {
      const select = make("select");
      select.id = "filter-" + name;
      select.append(new Option("all", ""));
      const counts = new Map();
      for (const pair of pairs) for (const value of of(pair)) counts.set(value, (counts.get(value) || 0) + 1);
      let values = [...counts.keys()].sort();
      if (name === "decision") values = ["undecided", "keep", "drop", "changed since"];
      if (name === "label") values = ANSWERS.filter(answer => counts.has(answer));
      for (const value of values) {
        const count = name === "decision" ? "" : ` (${counts.get(value)})`;
        select.append(new Option(words(value) + count, value));
      }
      select.addEventListener("change", () => { filter(); go(0); });
      get("filters").append(make("label", "", title, select));
    }
    const text = make("input");
    text.type = "search";
    text.id = "filter-text";
    text.addEventListener("input", () => { filter(); go(0); });
    get("filters").append(make("label", "", "text", text));
    const reset = make("button", "", "Reset ", make("kbd", "", "R"));
    reset.type = "button";
    reset.id = "reset";
    reset.addEventListener("click", resetFilters);
    get("filters").append(reset);
    get("filters").addEventListener("submit", event => event.preventDefault());
  }

  function resetFilters() {
    for (const field of get("filters").querySelectorAll("select, input")) field.value = "";
    filter();
    go(Math.max(0, view.indexOf(current)));
  }

  function filter() {
    const wanted = FILTERS.map(([name, , of]) => [get("filter-" + name).value, of]).filter(([value]) => value);
    const text = get("filter-text").value.trim().toLowerCase();
    view = pairs.filter(pair => wanted.every(([value, of]) => of(pair).includes(value))
      && (!text || [pair.question, pair.long_answer, pair.id, sources[pair.pmid]?.question ?? ""]
        .some(field => field.toLowerCase().includes(text))));
    for (const label of get("filters").querySelectorAll("label")) {
      label.classList.toggle("on", Boolean(label.querySelector("select, input").value));
    }
    const on = get("filters").querySelectorAll("label.on").length;
    get("show-filters").textContent = on ? `Filters (${on})` : "Filters";
    get("rows").style.height = view.length * ROW + "px";
    count();
  }

  function count() {
    let keep = 0;
    for (const said of decided.values()) keep += said.verdict === "keep";
    get("progress").value = decided.size;
    get("counts").textContent = `${decided.size} of ${pairs.length} decided: ${keep} keep, ${decided.size - keep} drop`;
    get("shown").textContent = view.length === pairs.length
      ? `${pairs.length} pairs, ${data.kept} kept by check`
      : `${view.length} of ${pairs.length} pairs shown`;
    get("export").disabled = lines().length === 0;
  }

  // ---- the list: only what is in sight is in the page ----

  function drawRows() {
    const list = get("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(view.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const rows = [];
    for (let index = first; index < last; index += 1) rows.push(drawRow(view[index], index));
    get("rows").replaceChildren(...rows);
    if (current) list.setAttribute("aria-activedescendant", "row-" + at);
  }

  function drawRow(pair, index) {
    const state = decision(pair);
    const look = {keep: "keep", drop: "drop", "changed since": "stale"}[state] ?? (pair.kept ? "yes-kept" : "not-kept");
    const shown = state === "undecided" ? (pair.kept ? "kept" : "dropped") : (state === "keep" ? "✓ keep" : state === "drop" ? "✗ drop" : state);
    const row = make("div", "row",
      make("div", "ask", make("span", "", `${pair.ask} · ${pair.pmid}`), make("span", look, shown)),
      make("div", "asked", pair.question));
    row.id = "row-" + index;
    row.style.top = index * ROW + "px";
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(index === at));
    row.setAttribute("aria-posinset", String(index + 1));
    row.setAttribute("aria-setsize", String(view.length));
    row.addEventListener("click", () => go(index));
    return row;
  }

  function go(index) {
    at = Math.min(Math.max(0, index), Math.max(0, view.length - 1));
    current = view[at] ?? null;
    const list = get("list");
    if (at * ROW < list.scrollTop) list.scrollTop = at * ROW;
    if ((at + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (at + 1) * ROW - list.clientHeight;
    drawRows();
    drawPair();
  }

  // ---- one pair ----

  function drawPair() {
    const pair = current;
    for (const id of ["keep", "drop"]) {
      get(id).classList.toggle("now", Boolean(pair) && decided.get(pair.id)?.verdict === id);
      get(id).disabled = !pair;
    }
    get("undo").disabled = !pair || !decided.has(pair.id);
    get("previous").disabled = at === 0;
    get("next").disabled = at >= view.length - 1;
    get("pair").scrollTop = 0;
    const top = get("pair").getBoundingClientRect().top;
    if (top < 0) window.scrollBy(0, top); // on a narrow window the page scrolls, not the pair
    if (!pair) return get("pair").replaceChildren(make("p", "empty", pairs.length ? "No pair passes these filters." : "There are no pairs."));
    const source = sources[pair.pmid] ?? {question: "", context: "", answer: "", long_answer: ""};
    get("pair").replaceChildren(
      about(pair), chips(pair),
      sides("asked", "Source question", source.question, "Generated question", pair.question),
      sides("answered", "Gold answer", source.answer ?? "", "Claimed answer", pair.answer),
      sides("said", "Conclusion of the study", source.long_answer, "Reason given", pair.long_answer),
      votes(pair),
      note(pair),
      pair.context === null
        ? make("div", "one", make("h2", "", "Abstract"), text(source.context))
        : sides("context", "Abstract", source.context, "Edited abstract", pair.context));
  }

  const text = value => value ? make("p", "", value) : make("p", "none", "none");

  function about(pair) {
    return make("div", "about", make("b", "", pair.id), `${pair.strategy} by ${pair.teacher}`, ` · ${pair.prompt}`, ` · ${at + 1} of ${view.length}`);
  }

  function chips(pair) {
    const said = decision(pair);
    const found = [make("span", "chip " + (pair.kept ? "yes-kept" : "not-kept"), pair.kept ? "kept by check" : "dropped by check")];
    for (const reason of pair.reasons) {
      const locked = !soft.has(reason) && reason !== data.own;
      const chip = make("span", "chip reason", words(reason) + (locked ? " · locked" : ""));
      chip.title = locked ? "a keep does not lift this" : "a keep lifts this";
      found.push(chip);
    }
    if (said === "keep" || said === "drop") found.push(make("span", "chip " + said, `you: ${said}`));
    if (said === "changed since") found.push(make("span", "chip stale", `changed since it was decided (${pair.outdated})`));
    return make("div", "chips", ...found);
  }

  function sides(name, leftTitle, left, rightTitle, right) {
    const [marked, written] = left && right ? compare(left, right) : [[left], [right]];
    const side = (title, whole, parts) => make("div", "", make("h2", "", title), whole ? make("p", "", ...parts) : text(""));
    return make("div", "sides " + name, side(leftTitle, left, marked), side(rightTitle, right, written));
  }

  function votes(pair) {
    const said = {none: "no votes", abstained: "abstained"}[vote(pair)] ?? `${pair.voted}, which ${vote(pair)}`;
    const box = make("div", "one", make("h2", "", `Blind vote: ${said}`));
    if (!pair.votes) return box;
    const rows = make("div", "votes");
    for (const answer of ANSWERS) {
      const share = pair.votes[answer] ?? 0;
      const bar = make("i");
      bar.style.width = 100 * share + "%";
      rows.append(make("span", "", answer), make("span", "bar", bar), make("span", "share", share.toFixed(2)));
    }
    box.append(rows);
    return box;
  }

  function note(pair) {
    const field = make("textarea");
    field.id = "note";
    field.maxLength = data.max_note;
    field.value = decided.get(pair.id)?.note ?? begun.get(pair.id) ?? "";
    field.placeholder = "Why? It is saved with the decision.";
    field.addEventListener("input", takeNote);
    return make("label", "one note", make("h2", "", "Note"), field);
  }

  // ---- which words differ: longest common subsequence ----

  function compare(left, right) {
    const a = left.match(/\S+|\s+/g) ?? [], b = right.match(/\S+|\s+/g) ?? [];
    const one = a.filter(token => token.trim()), two = b.filter(token => token.trim());
    if (one.length * two.length > MOST_CELLS) return [[left], [right]];
    const [mine, theirs] = common(one, two);
    return [mark(a, mine, "del"), mark(b, theirs, "ins")];
  }

  function common(one, two) {
    const width = two.length + 1;
    const longest = new Uint16Array((one.length + 1) * width);
    for (let i = one.length - 1; i >= 0; i -= 1) {
      for (let j = two.length - 1; j >= 0; j -= 1) {
        longest[i * width + j] = one[i] === two[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
      }
    }
    const mine = new Set(), theirs = new Set();
    for (let i = 0, j = 0; i < one.length && j < two.length;) {
      if (one[i] === two[j]) { mine.add(i); theirs.add(j); i += 1; j += 1; }
      else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i += 1;
      else j += 1;
    }
    return [mine, theirs];
  }

  // runs of words that the other text has not, with the blanks between them, in one mark
  function mark(tokens, shared, tag) {
    const parts = [];
    let run = "", gap = "", number = 0;
    const close = () => { if (run) parts.push(make(tag, "", run)); run = ""; if (gap) parts.push(gap); gap = ""; };
    for (const token of tokens) {
      if (!token.trim()) { gap += token; continue; }
      if (shared.has(number)) { close(); parts.push(token); }
      else { if (run) { run += gap; gap = ""; } else close(); run += token; }
      number += 1;
    }
    close();
    return parts;
  }

  // ---- keys ----

  function say(message) { get("said").textContent = message; }

  function toggle(button, panel, open) {
    if (panel === "help") get("help").hidden = !open;
    else get(panel).classList.toggle("open", open);
    get(button).setAttribute("aria-expanded", String(open));
    drawRows();
  }

  function find() {
    if (getComputedStyle(get("filters")).display === "none") toggle("show-filters", "filters", true);
    get("filter-text").focus();
  }

  const PRESSED = {
    k: () => decide("keep"), d: () => decide("drop"), u: undo, c: () => get("note")?.focus(),
    n: () => go(at + 1), p: () => go(at - 1), ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1),
    f: find, r: resetFilters, e: exportAll, "?": () => toggle("show-help", "help", get("help").hidden),
  };

  function onKey(event) {
    const inField = event.target.closest?.("input, textarea, select");
    if (event.key === "Escape" && inField) return inField.blur();
    if (inField && inField.type !== "checkbox") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(PRESSED, key) || (event.key.length === 1 && !get("keys").checked)) return;
    event.preventDefault();
    PRESSED[key]();
  }

  document.addEventListener("keydown", onKey);
  get("keep").addEventListener("click", () => decide("keep"));
  get("drop").addEventListener("click", () => decide("drop"));
  get("undo").addEventListener("click", undo);
  get("next").addEventListener("click", () => go(at + 1));
  get("previous").addEventListener("click", () => go(at - 1));
  get("export").addEventListener("click", exportAll);
  get("show-help").addEventListener("click", () => toggle("show-help", "help", get("help").hidden));
  get("show-filters").addEventListener("click", () => toggle("show-filters", "filters", !get("filters").classList.contains("open")));
  get("list").addEventListener("scroll", drawRows);
  window.addEventListener("resize", drawRows);
  window.addEventListener("beforeunload", event => { if (!stored && lines().length) event.preventDefault(); });

  buildFilters();
  restore();
  filter();
  go(Math.max(0, view.findIndex(pair => !decided.has(pair.id))));
  document.documentElement.dataset.readyMs = String(Math.round(performance.now()));
})();
