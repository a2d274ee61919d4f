// The page: asks /api/dashboard once a second and shows what it says. No framework; elements are kept and changed in
// place, so that focus, selection and a screen reader's position survive each second.

import { Chart, windowSince } from "./chart.js";
import { $, keyed, make, setText } from "./dom.js";
import { age, bytes, clock, clockMillis, compact, share, span, value, whole } from "./format.js";
import { showOutbox } from "./outbox.js";
import { addSilencing, readSilences, updateSilencing } from "./silences.js";

const EVERY_MS = 1000;
const TIMEOUT_MS = 4000;
const EVENTS_SHOWN = 25;
const ALERTS_SHOWN = 100;
const RESOLVED_SHOWN = 3;

/** Tone (colour) and mark (for those who see no colour) of every state word that the API uses. */
const STATES = {
  good: { mark: "✓", words: ["healthy", "ok", "up", "live", "connected", "listening", "reading", "running", "resolved"] },
  warn: { mark: "!", words: ["degraded", "pending", "starting", "connecting", "catching_up", "waiting", "paused", "deaf"] },
  bad: { mark: "✕", words: ["unhealthy", "firing", "lost", "failed", "error", "down"] },
};

function tone(word) {
  for (const [name, { words }] of Object.entries(STATES)) if (words.includes(word)) return name;
  return "neutral";
}

const markOf = (word) => STATES[tone(word)]?.mark ?? "?";
const plain = (word) => String(word ?? "unknown").replaceAll("_", " ");

/** `1.2k/s` with the unit small. */
function setFigure(node, text) {
  const [, figure, unit] = /^(\S+)\s*(.*)$/.exec(text);
  if (node.dataset.shown === text) return;
  node.dataset.shown = text;
  node.replaceChildren(figure);
  if (unit) node.append(make("span", "unit", unit));
}

function setBadge(node, word, text = plain(word)) {
  node.dataset.tone = tone(word);
  const wanted = `${markOf(word)} ${text}`;
  if (node.dataset.shown === wanted) return;
  node.dataset.shown = wanted;
  const mark = make("span", "mark", markOf(word));
  mark.setAttribute("aria-hidden", "true");
  node.replaceChildren(mark, text);
}

const since = (now, moment) => (moment ? (Date.parse(now) - Date.parse(moment)) / 1000 : NaN);

// ---- the parts of the page -------------------------------------------------------------------------------------------

function showHead(data) {
  setText($("service"), data.service);
  setText($("instance"), [data.instance, `sidewatch ${data.version}`, `up ${age(data.uptime_seconds)}`].filter(Boolean).join(" · "));
  setText($("foot"), `sidewatch ${data.version}, as of ${clock(data.now)}`);
  const firing = data.alerts.filter((alert) => alert.state === "firing").length;
  const title = `${firing ? `(${firing}) ` : ""}${data.service} · ${plain(data.health.status)}`;
  if (document.title !== title) document.title = title;
}

function showVerdict(data) {
  const status = data.health.status ?? "unknown";
  const failing = data.health.checks.filter((check) => tone(check.status) === "bad" || tone(check.status) === "warn");
  const unknown = data.health.checks.filter((check) => tone(check.status) === "neutral");
  const firing = data.alerts.filter((alert) => alert.state === "firing");
  // A service whose checks pass while alerts fire is not shown as plainly green.
  const shown = tone(status) === "good" && firing.length > 0 ? "warn" : tone(status);
  $("verdict").dataset.tone = shown;
  setText($("verdict-mark"), STATES[shown]?.mark ?? "?");
  const word = plain(status);
  setText($("status"), word.charAt(0).toUpperCase() + word.slice(1));
  const reasons = [];
  if (failing.length) reasons.push(failing.map((check) => check.reason && check.reason.length <= 60 ? `${check.name}: ${check.reason}` : `${check.name} is ${plain(check.status)}`).slice(0, 2).join("; ") + (failing.length > 2 ? ` and ${failing.length - 2} more` : ""));
  const silenced = firing.filter((alert) => (alert.silenced_by ?? []).length > 0).length;
  const quiet = silenced ? (silenced === firing.length ? ", silenced" : `, ${silenced} silenced`) : "";
  if (firing.length) reasons.push((firing.length === 1 ? `1 alert fires: ${firing[0].name}` : `${firing.length} alerts fire`) + quiet);
  for (const source of data.sources.filter((one) => one.state === "lost").slice(0, 2)) reasons.push(`nothing is heard from ${source.name}: ${source.reason}`);
  if (unknown.length) reasons.push(`${unknown.length} of ${data.health.checks.length} checks cannot tell`);
  if (!reasons.length) reasons.push(data.health.checks.length ? `All ${data.health.checks.length} checks pass, no alert fires.` : "No alert fires. No health check is configured.");
  setText($("status-why"), reasons.join(" · "));
}

function showTiles(data) {
  setFigure($("tile-rate"), `${compact(data.rate.now)} /s`);
  const history = data.rate.history.map((point) => point[1]).filter(Number.isFinite);
  const mean = history.length ? history.reduce((sum, rate) => sum + rate, 0) / history.length : null;
  setText($("tile-rate-note"), mean === null ? "no event yet" : `${compact(mean)} /s on average`);
  setFigure($("tile-errors"), share(data.errors.share));
  setText($("tile-errors-note"), "of all events, 1 min");
  $("tile-errors-box").dataset.tone = data.errors.share >= 0.05 ? "bad" : data.errors.share >= 0.01 ? "warn" : "neutral";
  setFigure($("tile-latency"), span(data.latency.p95));
  setText($("tile-latency-note"), `p50 ${span(data.latency.p50, true)} · p99 ${span(data.latency.p99, true)}`);
  const count = (state) => data.alerts.filter((alert) => alert.state === state).length;
  setFigure($("tile-alerts"), String(count("firing")));
  const silenced = data.alerts.filter((alert) => (alert.silenced_by ?? []).length > 0).length;
  setText($("tile-alerts-note"), `${silenced ? `${silenced} silenced, ` : ""}${count("pending")} pending, ${count("resolved")} resolved`);
  $("tile-alerts-box").dataset.tone = count("firing") ? "bad" : "neutral";
}

function createAlert() {
  const item = make("li", "alert");
  const body = make("div");
  body.append(make("div", "alert-name"), make("div", "alert-summary"), make("div", "labels"), make("div", "alert-links"));
  const state = make("div");
  state.append(make("span", "badge"));
  const end = make("div", "alert-end");
  end.append(make("b"), make("span"));
  addSilencing(item, body, end);
  item.append(state, body, end);
  return item;
}

function updateAlert(item, alert, now) {
  item.dataset.alert = alert.name;
  item.dataset.state = alert.state;
  setBadge(item.querySelector(".badge"), alert.state);
  setText(item.querySelector(".alert-name"), alert.severity ? `${alert.name} · ${alert.severity}` : alert.name);
  setText(item.querySelector(".alert-summary"), alert.summary ?? "");
  const labels = Object.entries(alert.labels).filter(([name]) => !["alertname", "severity", "__name__"].includes(name));
  keyed(item.querySelector(".labels"), labels, ([name]) => name, () => make("span", "label"), (node, [name, text]) => setText(node, `${name}="${text}"`));
  const links = Object.entries(alert.annotations ?? {}).filter(([name, text]) => name.endsWith("_url") && /^https?:\/\//.test(text));
  keyed(item.querySelector(".alert-links"), links, ([name]) => name, () => make("a"), (node, [name, text]) => {
    setText(node, name === "runbook_url" ? "Runbook" : plain(name.slice(0, -4)));
    node.href = text;
    node.rel = "noreferrer";
  });
  updateSilencing(item, alert);
  const [figure, when] = item.querySelector(".alert-end").children;
  // A posted alert has no value.
  setText(figure, alert.value === "" ? "" : value(alert.value));
  const moment = alert.state === "resolved" ? alert.resolved_at : alert.state === "firing" ? alert.fired_at : alert.active_at;
  setText(when, `${alert.state === "resolved" ? "ended" : "since"} ${moment ? clock(moment) : "–"} (${age(since(now, moment))}${alert.state === "resolved" ? " ago" : ""})`);
  when.title = moment ?? "";
}

/** Whether all alerts that have ended are shown, or only the latest. */
let allResolved = false;

function showAlerts(data) {
  const changed = (alert) => alert.resolved_at ?? alert.fired_at ?? alert.active_at;
  const order = { firing: 0, pending: 1, resolved: 2 };
  const alerts = [...data.alerts].sort((a, b) => order[a.state] - order[b.state] || String(changed(b)).localeCompare(String(changed(a))));
  const shown = alerts.slice(0, ALERTS_SHOWN);
  let resolved = 0;
  keyed($("alerts"), shown, (alert) => JSON.stringify(alert.labels), createAlert, (item, alert) => {
    updateAlert(item, alert, data.now);
    resolved += alert.state === "resolved" ? 1 : 0;
    item.hidden = !allResolved && alert.state === "resolved" && resolved > RESOLVED_SHOWN;
  });
  const more = Math.max(0, resolved - RESOLVED_SHOWN);
  $("alerts-more").hidden = more === 0;
  $("alerts-more").setAttribute("aria-expanded", String(allResolved));
  setText($("alerts-more"), allResolved ? "Show fewer" : `Show ${more} more that ended`);
  $("alerts-none").hidden = shown.length > 0;
  setText($("alerts-none"), "No alert is active and none has ended lately.");
  setText($("alerts-note"), alerts.length > shown.length ? `the first ${shown.length} of ${alerts.length}` : "");
}

function cells(row, count) {
  if (!row.children.length) for (let at = 0; at < count; at += 1) row.append(make("td"));
  return row.children;
}

function showTypes(data) {
  const most = Math.max(1e-9, ...data.types.map((type) => type.rate));
  keyed($("types"), data.types.slice(0, 12), (type) => type.type, () => make("tr"), (row, type) => {
    const [name, rate, bar, failed, p99] = cells(row, 5);
    name.className = "name-cell";
    setText(name, type.type);
    rate.className = failed.className = p99.className = "num";
    setText(rate, `${compact(type.rate)} /s`);
    bar.className = "bar-col";
    if (!bar.firstChild) bar.append(make("div", "spark"));
    bar.firstChild.style.width = `${(100 * type.rate) / most}%`;
    setText(failed, share(type.failed_share));
    if (type.failed_share >= 0.05) failed.classList.add("tone-bad");
    setText(p99, span(type.p99));
  });
  const none = data.types.length === 0;
  $("types-none").hidden = !none;
  if (none) setText($("hint-send"), `curl -d '{"type":"hello.world"}' ${data.ingest_url ?? "http://127.0.0.1:9181"}/events`);
}

function showChecks(data) {
  const checks = data.health.checks;
  keyed($("checks"), checks, (check) => check.name, () => {
    const item = make("li");
    item.append(make("span", "name-cell"), make("span", "badge"), make("span", "why"));
    return item;
  }, (item, check) => {
    const [name, badge, why] = item.children;
    setText(name, check.name);
    setBadge(badge, check.status);
    const forLong = check.since ? `for ${age(since(data.now, check.since))}` : "";
    setText(why, [check.reason, forLong].filter(Boolean).join(", "));
  });
  $("checks-none").hidden = checks.length > 0;
  const passing = checks.filter((check) => tone(check.status) === "good").length;
  setText($("checks-note"), checks.length ? `${passing} of ${checks.length} checks pass` : "");
}

function showSources(data) {
  keyed($("sources"), data.sources, (source) => source.name, () => make("tr"), (row, source) => {
    const [name, state, rate, received] = cells(row, 4);
    if (!state.firstChild) {
      name.append(make("span", "name-cell"), make("span", "sub"));
      state.append(make("span", "badge"), make("span", "sub"));
    }
    setText(name.firstChild, source.name);
    setText(name.lastChild, source.kind);
    setBadge(state.firstChild, source.state);
    setText(state.lastChild, source.reason ?? "");
    rate.className = received.className = "num";
    setText(rate, `${compact(source.rate)} /s`);
    setText(received, whole(source.received_total));
  });
  $("sources-none").hidden = data.sources.length > 0;
}

function setMeter(name, part, text) {
  const fill = $(`${name}-fill`);
  fill.style.width = `${Math.min(100, Math.max(0, 100 * part))}%`;
  fill.dataset.tone = part >= 0.9 ? "bad" : part >= 0.7 ? "warn" : "neutral";
  setText($(`${name}-text`), text);
}

function showSelf(data) {
  const { queue, series } = data;
  setMeter("queue", queue.capacity ? queue.batches / queue.capacity : 0, `${whole(queue.batches)} of ${whole(queue.capacity)} batches, ${bytes(queue.bytes)}`);
  setMeter("series", series.limit ? series.count / series.limit : 0, `${whole(series.count)} of ${whole(series.limit)}`);
  const limited = series.limited ?? [];
  $("limited").hidden = limited.length === 0;
  setText($("limited"), limited.map((entry) => `${entry.metric} is at its limit${entry.label ? `: the label ${entry.label} has too many values` : ""}`).join(". "));
  const receivers = data.notifications.receivers;
  keyed($("receivers"), receivers, (receiver) => receiver.name, () => {
    const item = make("li");
    item.append(make("span", "name-cell"), make("span", "badge"), make("span", "why"));
    return item;
  }, (item, receiver) => {
    const [name, badge, why] = item.children;
    setText(name, receiver.name);
    const word = receiver.last_error ? "failed" : receiver.pending ? "pending" : receiver.sent ? "ok" : "idle";
    const waiting = receiver.pending ? `${whole(receiver.pending)} waiting` : "";
    setBadge(badge, word, [receiver.last_error ? "failing" : "", waiting].filter(Boolean).join(", ") || `${whole(receiver.sent)} sent`);
    setText(why, receiver.last_error ? `${receiver.last_error} (${whole(receiver.failed)} failed)` : "");
  });
  $("receivers-none").hidden = receivers.length > 0;
}

/** What a screen reader is told: changes of health and of alerts, not each second's figures. */
const told = { health: null, alerts: null };

function announce(data) {
  const alerts = new Map(data.alerts.map((alert) => [JSON.stringify(alert.labels), alert]));
  const news = [];
  if (told.health !== null && told.health !== data.health.status) news.push(`Health is now ${plain(data.health.status)}.`);
  if (told.alerts !== null) {
    for (const [key, alert] of alerts) {
      const before = told.alerts.get(key);
      if (alert.state === "firing" && before !== "firing") news.push(`Alert ${alert.name} fires: ${alert.summary ?? ""}`);
      if (alert.state === "resolved" && before === "firing") news.push(`Alert ${alert.name} is resolved.`);
    }
  }
  told.health = data.health.status;
  told.alerts = new Map([...alerts].map(([key, alert]) => [key, alert.state]));
  if (news.length) $("announce").textContent = news.slice(0, 5).join(" ");
}

// ---- recent events ---------------------------------------------------------------------------------------------------

const events = { paused: false, open: new Set() };

function createEvent(event) {
  const row = make("tr");
  const [, type] = cells(row, 6);
  const toggle = make("button", "row-toggle", event.type);
  toggle.type = "button";
  type.append(toggle);
  toggle.addEventListener("click", () => {
    const key = row.dataset.key;
    if (!events.open.delete(key)) events.open.add(key);
    showPayload(row, event);
  });
  return row;
}

function showPayload(row, event) {
  const open = events.open.has(row.dataset.key);
  const toggle = row.querySelector(".row-toggle");
  toggle.setAttribute("aria-expanded", String(open));
  row.querySelector(".payload")?.remove();
  if (open) toggle.after(make("pre", "payload", event.payload === undefined ? "The payload is not shown here." : JSON.stringify(event.payload, null, 2)));
}

function updateEvent(row, event) {
  const [time, type, subject, source, outcome, duration] = row.children;
  if (time.textContent) return;
  time.className = "nowrap muted";
  setText(time, clockMillis(event.time ?? event.arrived));
  time.title = event.time ?? event.arrived;
  if (event.payload === undefined) type.firstChild.disabled = true;
  else type.firstChild.setAttribute("aria-expanded", "false");
  setText(subject, event.subject ?? "");
  setText(source, event.source ?? "");
  outcome.append(make("span", "badge"));
  setBadge(outcome.firstChild, event.failed ? "failed" : "ok", event.failed ? (event.outcome ?? "failed") : (event.outcome ?? "ok"));
  if (event.attempt > 1) outcome.append(make("span", "sub", `attempt ${event.attempt}`));
  duration.className = "num";
  setText(duration, Number.isFinite(event.duration_seconds) ? span(event.duration_seconds) : "");
}

async function readEvents() {
  if (events.paused) return;
  const filter = $("events-filter").value.trim();
  const query = new URLSearchParams({ limit: String(EVENTS_SHOWN) });
  if (filter) query.set("type", filter);
  const answer = await fetch(`/api/events?${query}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  const body = await answer.json();
  if (!answer.ok) {
    setText($("events-note"), body.error ?? `the request failed with ${answer.status}`);
    return;
  }
  // Rows that are open stay where they are until they are closed.
  if (events.open.size === 0) keyed($("events"), body.events, (event) => String(event.sequence), createEvent, updateEvent);
  $("events-none").hidden = body.events.length > 0;
  setText($("events-none"), filter ? `No recent event has a type like ${filter}.` : "No event has arrived yet.");
  setText($("events-note"), events.open.size ? "held while a row is open" : body.payloads === "hidden" ? "payloads are shown on loopback only" : "");
}

// ---- asking, each second ---------------------------------------------------------------------------------------------

const charts = {
  rate: new Chart($("chart-rate"), { title: "Event rate", series: [{ name: "events per second", css: "s-rate" }], format: compact, floor: 1 }),
  errors: new Chart($("chart-errors"), { title: "Error share", series: [{ name: "failed", css: "s-errors" }], format: share, floor: 0.05, ceiling: 1 }),
  latency: new Chart($("chart-latency"), { title: "Latency", series: [{ name: "p50", css: "s-p50" }, { name: "p95", css: "s-p95" }, { name: "p99", css: "s-p99" }], format: (seconds) => span(seconds, true), floor: 0.001 }),
};

let lastAnswer = null;
/** The last answer itself, for controls that change only how it is shown. */
let last = null;

function show(data) {
  last = data;
  showHead(data);
  showVerdict(data);
  showTiles(data);
  showAlerts(data);
  const now = Date.parse(data.now) / 1000;
  const window = windowSince(data.rate.history[0]?.[0] ?? now, now);
  charts.rate.update(data.rate.history, now, window);
  charts.errors.update(data.errors.history, now, window);
  charts.latency.update(data.latency.history, now, window);
  setText($("rate-note"), `events/s, ${window.said}`);
  showTypes(data);
  showChecks(data);
  showSources(data);
  showSelf(data);
  announce(data);
}

function showLink(state, text, mark) {
  document.body.dataset.state = state;
  $("link").dataset.tone = mark;
  setText($("link-text"), text);
}

async function ask() {
  try {
    const answer = await fetch("/api/dashboard", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const data = await answer.json();
    lastAnswer = Date.now();
    showLink("live", "Live", "good");
    $("gone").hidden = true;
    show(data);
    await showOutbox({ $, make, setText, setBadge, keyed }, data);
    await readSilences();
    await readEvents();
  } catch (error) {
    const reason = error.name === "TimeoutError" ? `no answer within ${TIMEOUT_MS / 1000} s` : error instanceof TypeError ? "it cannot be reached" : error.message;
    const stale = lastAnswer === null ? "" : ` What you see is what it said at ${clock(lastAnswer)}.`;
    showLink("gone", "No contact", "bad");
    // The sentence changes only with its cause, so that a screen reader says it once.
    setText($("gone"), `No contact with sidewatch: ${reason}.${stale} Asking again each second.`);
    $("gone").hidden = false;
    if (!document.title.startsWith("No contact")) document.title = `No contact · ${document.title}`;
  }
}

async function run() {
  for (;;) {
    const began = performance.now();
    // Nobody looks at a hidden page: it is asked again when it is seen.
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    await ask();
    await new Promise((done) => setTimeout(done, Math.max(100, EVERY_MS - (performance.now() - began))));
  }
}

// ---- controls --------------------------------------------------------------------------------------------------------

const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText($("theme-text"), THEMES[theme]);
  $("theme").setAttribute("aria-label", `Colour theme: ${theme === "auto" ? "as the system" : theme}`);
}

/** Storage may be forbidden (private windows); the choice then holds for this visit. */
function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch { /* the page works without */ }
}

function recall() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

let theme = recall() in THEMES ? recall() : "auto";
setTheme(theme);
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  setTheme(theme);
  remember(theme);
});

$("alerts-more").addEventListener("click", () => {
  allResolved = !allResolved;
  if (last !== null) showAlerts(last);
});
$("events-pause").addEventListener("click", () => {
  events.paused = !events.paused;
  $("events-pause").setAttribute("aria-pressed", String(events.paused));
  setText($("events-pause"), events.paused ? "Resume" : "Pause");
});
$("events-filter").addEventListener("input", () => events.open.clear());
$("events-form").addEventListener("submit", (event) => event.preventDefault());

run();
