"use strict";

// The page asks the service as any client would. No method's name is written here: they come from /v1/methods.

const EXAMPLES = [
  {
    name: "Which year?",
    question: "In which year was the bridge opened?",
    passages: [
      "The old bridge: A timber bridge stood at the ford until the flood of 1784 carried it away.",
      "Planning: The council voted for a stone bridge in 1811, but money was found only years later.",
      "Opening: The stone bridge over the Ard was opened to carts in 1826, after three years of work.",
      "Repairs: Two of its arches were rebuilt in 1902 when the road was widened.",
      "Today: Since 1974 the bridge has been open to walkers only.",
    ],
  },
  {
    name: "Who painted it?",
    question: "Who painted the portrait in the hall?",
    passages: [
      "Hall: The portrait in the hall was painted by Ines Moreau during her stay in 1893.",
      "Library: The landscape above the library door is by Karl Stenberg.",
      "Stairs: The two miniatures on the stairs were a gift from the painter Lucia Fontana.",
      "Chapel: The altarpiece was restored by Peter Hahn.",
    ],
  },
  { name: "My own", question: "", passages: [] },
];

const $ = (id) => document.getElementById(id);
let running = null;

function headers() {
  const key = $("key").value || sessionStorage.getItem("fairpos-key") || "";
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function call(path, body, signal) {
  const reply = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: headers(),
    body: body && JSON.stringify(body),
    signal,
  });
  if (reply.status === 401) $("key-row").hidden = false;
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.message || reply.statusText);
  return value;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const paragraphs = () => $("passages").value.split(/\n\s*\n/).map((text) => text.trim()).filter(Boolean);

// A passage that starts with a few words and a colon has them as its title.
function asDocument(text, index) {
  const found = /^([^:\n]{1,60}): +([^]+)$/.exec(text);
  return { id: String(index + 1), ...(found ? { title: found[1], text: found[2] } : { text }) };
}

// A small seeded generator, so that the same shuffles come back.
function shuffled(list, seed) {
  const copy = [...list];
  let state = seed * 2654435761 % 4294967296;
  for (let i = copy.length - 1; i > 0; i -= 1) {
    state = (state * 1664525 + 1013904223) % 4294967296;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

function orders(documents) {
  const kind = $("orders").value;
  if (kind === "reversed") return [documents, [...documents].reverse()];
  if (kind === "shuffles") return [documents, ...[1, 2, 3, 4].map((seed) => shuffled(documents, seed))];
  return documents.map((_, shift) => [...documents.slice(shift), ...documents.slice(0, shift)]);
}

function chosenMethods() {
  const chosen = [...document.querySelectorAll("#methods input:checked")].map((box) => box.value);
  const own = $("own").value.trim();
  return own && !chosen.includes(own) ? [...chosen, own] : chosen;
}

const plain = (text) => text.trim().toLowerCase().replace(/\s+/g, " ").replace(/^[\s.,;:!?"']+|[\s.,;:!?"']+$/g, "");

async function askOne(methods, documents, signal) {
  const reply = await call("v1/chat/completions", {
    model: $("model").value,
    messages: [{ role: "user", content: $("question").value }],
    documents,
    max_tokens: Number($("tokens").value),
    temperature: 0,
    fairpos: { methods, votes: true },
  }, signal);
  return { text: reply.choices[0].message.content.trim(), votes: reply.fairpos?.votes ?? [] };
}

const visible = (text) => text.replace(/\n/g, "\u21b5").replace(/^ /, "") || "\u2423";
const numbers = (orders) => orders.map((n) => n + 1).join(", ");

// A token over a square for each order, filled where that order would have gone on with something else.
function votedToken(token) {
  const chosen = token.said.find((each) => each.text === token.text) ?? { orders: [] };
  const count = token.said.reduce((sum, each) => sum + each.orders.length, 0);
  const words = token.said.map((each) => `${visible(each.text)}: ${each.orders.length} of ${count}`).join("; ");
  const squares = Array.from({ length: count }, (_, n) => element("i", { className: chosen.orders.includes(n) ? "" : "other" }));
  return element("span", { className: token.said.length > 1 ? "token split" : "token", title: words },
    element("b", { textContent: visible(token.text) }), element("span", { className: "squares" }, ...squares));
}

// Where the orders of a vote did not agree: the text with their squares, then who said what.
function voteDetails(vote) {
  const disputed = vote.tokens.filter((token) => token.said.length > 1);
  const words = `${vote.orders.length} orders voted; they disagree on ${disputed.length} of ${vote.tokens.length} tokens`;
  const rows = disputed.map((token) => element("li", {}, ...token.said.flatMap((each, i) => [
    ...(i ? ["; "] : []), element("q", { textContent: visible(each.text) }),
    `${each.text === token.text ? " (written)" : ""} orders ${numbers(each.orders)}`,
  ])));
  const shown = vote.orders.map((order, n) => element("li", { textContent: `order ${n + 1} shows ${order.join(" ")}` }));
  return element("details", { className: "vote" }, element("summary", { textContent: words }),
    element("div", { className: "tokens" }, ...vote.tokens.map(votedToken)),
    element("ul", {}, ...rows), element("ul", { className: "orders" }, ...shown));
}

function column(methods, count) {
  const sum = element("p", { className: "sum", textContent: `asking in ${count} orders ...` });
  const list = element("ol");
  const card = element("article", { className: "method" }, element("h3", { textContent: methods }), sum, list);
  card.dataset.methods = methods;
  return { card, sum, list, first: null, told: null, flips: 0, done: 0, failed: 0 };
}

function add(to, documents, { text, votes }, error) {
  const shown = documents.map((d) => d.id).join(" ");
  const item = element("li", { textContent: error ? String(error.message) : text || "(no text)" });
  item.append(element("small", { textContent: `shown: ${shown}` }));
  const told = JSON.stringify(votes);
  if (votes.length && told !== to.told) item.append(...votes.map(voteDetails));  // the same in every order: once
  to.told = told;
  if (error) {
    item.className = "error";
    to.failed += 1;
  } else if (to.first === null) {
    to.first = plain(text);
    to.done += 1;
  } else {
    to.done += 1;
    if (plain(text) !== to.first) {
      item.className = "flip";
      to.flips += 1;
    }
  }
  to.list.append(item);
}

function summarise(to) {
  const word = to.flips === 1 ? "flip" : "flips";
  const flips = element("b", { textContent: `${to.flips} ${word}`, className: to.flips ? "bad" : "" });
  const rest = ` in ${to.done} orders${to.failed ? `, ${to.failed} failed` : ""}`;
  to.sum.replaceChildren(...(to.done ? [flips, rest] : ["not possible here"]));
}

async function ask(event) {
  event.preventDefault();
  if ($("key").value) sessionStorage.setItem("fairpos-key", $("key").value);
  const documents = paragraphs().map(asDocument);
  const wanted = chosenMethods();
  if (!documents.length || !wanted.length) {
    $("status").textContent = documents.length ? "Choose a method." : "Paste some passages.";
    return;
  }
  running?.abort();
  const mine = new AbortController();
  running = mine;
  $("ask").disabled = true;
  $("stop").disabled = false;
  const views = orders(documents);
  const columns = wanted.map((methods) => column(methods, views.length));
  $("answers").replaceChildren(element("div", { className: "columns" }, ...columns.map((c) => c.card)));
  let done = 0;
  const total = wanted.length * views.length;
  $("status").textContent = `0 of ${total}`;
  await Promise.all(columns.map(async (to, i) => {
    for (const view of views) {  // in turn, so that the answers stand in the order of the views
      if (mine.signal.aborted) return;
      try {
        add(to, view, await askOne(wanted[i], view, mine.signal));
      } catch (error) {
        if (mine.signal.aborted) return;
        add(to, view, { text: "", votes: [] }, error);
        if (!to.done) break;  // it would fail the same way in every order
      }
      done += 1;
      $("status").textContent = `${done} of ${total}`;
    }
    summarise(to);
  }));
  if (running !== mine) return;
  $("status").textContent = mine.signal.aborted ? "stopped" : "done";
  $("ask").disabled = false;
  $("stop").disabled = true;
  running = null;
}

function plot(profile) {
  const [width, height, base] = [320, 130, 110];
  const ns = "http://www.w3.org/2000/svg";
  const make = (name, attributes, text) => {
    const made = document.createElementNS(ns, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${profile.signal} by slot` });
  const lowest = Math.min(0, ...profile.slots.map((s) => s.low));
  const highest = Math.max(...profile.slots.map((s) => s.high), 1e-9);
  const y = (value) => base - ((value - lowest) / (highest - lowest || 1)) * (base - 8);
  const step = width / profile.slots.length;
  profile.slots.forEach((slot, i) => {
    const x = i * step;
    const [top, bottom] = [y(Math.max(slot.value, 0)), y(Math.min(slot.value, 0))];
    svg.append(
      make("rect", { x: x + step * 0.15, y: top, width: step * 0.7, height: Math.max(1, bottom - top), rx: 2 }),
      make("line", { x1: x + step / 2, x2: x + step / 2, y1: y(slot.low), y2: y(slot.high) }),
      make("text", { x: x + step / 2, y: height - 6, "text-anchor": "middle" }, i + 1),
    );
  });
  const title = `${profile.model}, ${profile.count} documents`;
  const note = `${profile.signal}, ${profile.samples} questions, ${profile.rule}`;
  return element("article", { className: "plot" }, element("h3", { textContent: title }), svg, element("p", { textContent: note }));
}

async function showProfiles() {
  const { data } = await call("v1/calibrations");
  const own = data.filter((p) => p.model === $("model").value);
  const shown = (own.length ? own : data).slice(0, 6);
  $("profile-section").hidden = !shown.length;
  $("profiles").replaceChildren(...shown.map(plot));
}

function fill(example) {
  $("question").value = example.question;
  $("passages").value = example.passages.join("\n\n");
  countPassages();
}

function countPassages() {
  const n = paragraphs().length;
  $("count").textContent = n ? `(${n})` : "";
}

// The plain model comes first. It is ticked to begin with, and so is one method a level that is free of the order.
function methodChips(methods, capabilities) {
  const usable = methods.filter((m) => m.tasks.includes("answer") && m.requires.every((r) => capabilities.includes(r)));
  usable.sort((a, b) => (b.family === "none") - (a.family === "none"));
  const firstFree = (family) => usable.find((m) => m.family === family && m.order_free);
  const plainModel = usable.find((m) => m.family === "none");
  const ticked = new Set([plainModel, firstFree("attention"), firstFree("output")].filter(Boolean).map((m) => m.name));
  $("methods").replaceChildren(...usable.map((m) => {
    const box = element("input", { type: "checkbox", value: m.name, checked: ticked.has(m.name) });
    return element("label", { title: m.summary }, box, m.name);
  }));
}

async function start() {
  EXAMPLES.forEach((example, i) => $("example").append(new Option(example.name, i)));
  fill(EXAMPLES[0]);
  $("example").addEventListener("change", () => fill(EXAMPLES[Number($("example").value)]));
  $("passages").addEventListener("input", countPassages);
  $("form").addEventListener("submit", ask);
  $("stop").addEventListener("click", () => running?.abort());
  $("key").addEventListener("change", load);
  await load();
}

async function load() {
  if ($("key").value) sessionStorage.setItem("fairpos-key", $("key").value);
  try {
    const [models, methods] = await Promise.all([call("v1/models"), call("v1/methods")]);
    $("model").replaceChildren(...models.data.map((model) => new Option(model.id, model.id)));
    const capabilities = () => models.data.find((m) => m.id === $("model").value)?.capabilities ?? [];
    methodChips(methods.data, capabilities());
    $("model").onchange = () => {
      methodChips(methods.data, capabilities());
      showProfiles();
    };
    await showProfiles();
    $("key-row").hidden = true;
    $("status").textContent = "";
  } catch (error) {
    $("status").textContent = error.message;
  }
}

start();
