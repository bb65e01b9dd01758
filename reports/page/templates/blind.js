"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [start, ask, end] = ["start", "ask", "end"].map(id => document.getElementById(id));
  const at = id => document.getElementById(id);
  const duels = data.mode === "preference";
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };

  // Order ---------------------------------------------------------------------------------------------------------
  const hash = text => {  // FNV-1a over UTF-16 units, 32 bits
    let found = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) found = Math.imul(found ^ text.charCodeAt(i), 0x01000193) >>> 0;
    return found;
  };
  const random = seed => () => {  // mulberry32
    seed = (seed + 0x6d2b79f5) >>> 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const shuffled = (list, draw) => {
    const found = [...list];
    for (let i = found.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [found[i], found[j]] = [found[j], found[i]];
    }
    return found;
  };
  const apart = order => {  // how near the two showings of a picture come at worst
    const place = new Map(order.map((show, i) => [show.token, i]));
    return Math.min(Infinity, ...data.repeats.map(([one, other]) => Math.abs(place.get(one) - place.get(other))));
  };
  const ordered = name => {
    const draw = random(hash(`${data.session}\n${name.normalize("NFKC").toLowerCase()}`));
    const wanted = Math.min(8, Math.floor(data.shows.length / 3));
    let best = shuffled(data.shows, draw);
    for (let i = 0; i < 200 && apart(best) < wanted; i++) {
      const next = shuffled(data.shows, draw);
      if (apart(next) > apart(best)) best = next;
    }
    return best.map(show => ({...show, turned: duels && draw() < 0.5}));
  };

  // State ---------------------------------------------------------------------------------------------------------
  let rater = "", order = [], answers = {}, given = [], place = 0;
  const store = () => `sweetspot-blind-${data.session}-${rater.normalize("NFKC").toLowerCase()}`;
  const keep = () => { try { localStorage.setItem(store(), JSON.stringify({answers, given})); } catch { /* works without */ } };
  const recall = () => {
    answers = {}; given = [];
    try {
      const held = JSON.parse(localStorage.getItem(store()) || "{}");
      const known = new Set(data.shows.map(show => show.token));
      for (const [token, answer] of Object.entries(held.answers || {})) if (known.has(token)) answers[token] = answer;
      given = (held.given || []).filter(token => token in answers);
    } catch { /* nothing kept, or not ours */ }
  };
  const answered = () => Object.keys(answers).length;
  const nextOpen = from => {
    for (let i = 0; i < order.length; i++) {
      const there = (from + i) % order.length;
      if (!(order[there].token in answers)) return there;
    }
    return -1;
  };

  // Asking --------------------------------------------------------------------------------------------------------
  const choices = duels
    ? [["left", "Left is better"], ["tie", "No difference"], ["right", "Right is better"]]
    : Array.from({length: data.highest}, (_, i) => [i + 1, `${i + 1}`]);
  const buttons = choices.map(([value, text]) => {
    const button = make("button", text, at("answers"));
    button.addEventListener("click", () => answer(value));
    return button;
  });
  const meant = (show, value) => {  // what a side stands for: the order of the key is not the order on the screen
    if (!duels || value === "tie") return value;
    return (value === "left") !== show.turned ? "a" : "b";
  };
  const show = () => {
    const now = order[place];
    at("prompt").textContent = now.text;
    at("stage").replaceChildren();
    const sides = now.turned ? [...now.at].reverse() : now.at;
    sides.forEach((number, side) => {
      const image = make("img", undefined, make("figure", undefined, at("stage")));
      image.addEventListener("load", () => image.style.setProperty("--shape", `${image.naturalWidth} / ${image.naturalHeight}`));
      image.src = data.pictures[number];
      image.alt = duels ? (side ? "The right picture" : "The left picture") : "The picture to be rated";
    });
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(answers[now.token] === meant(now, choices[i][0]))));
    at("count").textContent = `${place + 1} of ${order.length} · ${answered()} answered`;
    at("bar").max = order.length;
    at("bar").value = answered();
    at("undo").disabled = !given.length;
    if (!duels) { at("back").disabled = place === 0; at("forth").disabled = place === order.length - 1; }
  };
  const turn = to => { place = Math.max(0, Math.min(order.length - 1, to)); show(); };
  const answer = value => {
    const token = order[place].token;
    answers[token] = meant(order[place], value);
    given = [...given.filter(other => other !== token), token];
    keep();
    const open = nextOpen(place + 1);
    if (open < 0) finish(); else turn(open);
  };
  const undo = () => {
    const token = given.pop();
    if (token === undefined) return;
    delete answers[token];
    keep();
    only(ask);
    turn(order.findIndex(one => one.token === token));
  };

  // Export --------------------------------------------------------------------------------------------------------
  const only = section => { for (const one of [start, ask, end]) one.hidden = one !== section; };
  const finish = () => {
    const text = JSON.stringify({format: data.format, session: data.session, mode: data.mode, rater, answers}, null, 1);
    const left = order.length - answered();
    at("state").textContent = left ? `${answered()} of ${order.length} answered; ${left} are still open, and count as not answered.`
      : `All ${order.length} are answered.`;
    at("thanks").textContent = left ? "Not finished yet" : "Thank you";
    at("text").value = text;
    at("resume").textContent = left ? "Go on" : "Look again";
    URL.revokeObjectURL(at("file").href);
    at("file").href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
    at("file").download = `blind-${data.session}-${rater.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 24)}.json`;
    at("file").toggleAttribute("hidden", !answered());
    only(end);
    at("file").focus();
  };
  const clean = name => {  // what the harness takes for a name: nothing unprintable, at most 60 characters
    const plain = name.normalize("NFC").replace(/[\p{Z}\s]+/gu, " ").replace(/\p{C}/gu, "");
    return [...plain].slice(0, 60).join("").trim();
  };
  const begin = name => {
    rater = name;
    order = ordered(rater);
    recall();
    only(ask);
    turn(Math.max(0, nextOpen(0)));
  };

  at("who").addEventListener("submit", event => {
    event.preventDefault();
    const name = clean(at("name").value);
    if (name) begin(name);
  });
  at("undo").addEventListener("click", undo);
  at("finish").addEventListener("click", finish);
  at("resume").addEventListener("click", () => { only(ask); turn(Math.max(0, nextOpen(0))); });
  at("copy").addEventListener("click", async () => {
    at("text").select();
    try { await navigator.clipboard.writeText(at("text").value); } catch { document.execCommand("copy"); }
    at("copy").textContent = "Copied";
  });
  if (!duels) {
    at("back").addEventListener("click", () => turn(place - 1));
    at("forth").addEventListener("click", () => turn(place + 1));
  }
  document.addEventListener("keydown", event => {
    if (ask.hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const key = event.key;
    const act = key === "Backspace" || key.toLowerCase() === "u" ? undo
      : duels ? {ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), ArrowDown: () => answer("tie"),
                 0: () => answer("tie")}[key]
      : key >= "0" && key <= "9" && key.length === 1 ? () => answer(key === "0" ? 10 : Number(key))
      : {ArrowLeft: () => turn(place - 1), ArrowRight: () => turn(place + 1)}[key];
    if (act) { event.preventDefault(); act(); }
  });
})();
