// Silences: by whom an alert is silenced or inhibited, a small form to silence it, and the list with a button to expire.
// They are made and ended through Alertmanager's API, which takes changes from this machine only.

import { $, keyed, make, setText } from "./dom.js";
import { clock } from "./format.js";

const TIMEOUT_MS = 4000;
const HOUR_S = 3600;
const DURATIONS = [["30 minutes", HOUR_S / 2], ["1 hour", HOUR_S], ["2 hours", 2 * HOUR_S], ["8 hours", 8 * HOUR_S], ["1 day", 24 * HOUR_S], ["1 week", 168 * HOUR_S]];

/** The time of day, with the date when it is not today. */
function until(moment) {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return "further notice";
  return at.toDateString() === new Date().toDateString() ? clock(at) : `${at.toLocaleDateString("en-GB")} ${clock(at)}`;
}

const quoted = (text) => (text ? `“${text}”` : "");

/** Sends a change; the answer, or an error with what the API said. */
async function change(method, path, body) {
  const request = { method, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) Object.assign(request, { headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const answer = await fetch(`/api/v2/${path}`, request);
  const text = await answer.text();
  let said = null;
  try {
    said = JSON.parse(text);
  } catch { /* an empty body is no JSON */ }
  if (answer.ok) return said;
  const reason = typeof said === "string" ? said : (said?.message ?? [said?.error, said?.hint].filter(Boolean).join(": "));
  throw new Error(reason || `it answered ${answer.status}`);
}

// ---- at an alert -----------------------------------------------------------------------------------------------------

/** The places for it in an alert's element. */
export function addSilencing(item, body, end) {
  body.append(make("div", "alert-muted"));
  const button = make("button", "button small silence-open", "Silence");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => (item.querySelector(".silence-form") ? closeForm(item) : openForm(item, body)));
  end.append(button);
}

/** In words by whom an alert is held back; empty when nobody does. */
function suppression(alert) {
  const silences = (alert.silenced_by ?? []).map((one) => [`Silenced by ${one.created_by || "somebody"} until ${until(one.ends_at)}`, quoted(one.comment)].filter(Boolean).join(", "));
  const inhibitors = (alert.inhibited_by ?? []).length ? [`Inhibited by ${alert.inhibited_by.join(", ")}`] : [];
  const intervals = (alert.muted_by ?? []).length ? [`Muted by the time interval ${alert.muted_by.join(", ")}`] : [];
  return [...silences, ...inhibitors, ...intervals].join(" · ");
}

export function updateSilencing(item, alert) {
  item.labels = alert.labels;
  const silenced = (alert.silenced_by ?? []).length > 0;
  setText(item.querySelector(".alert-muted"), alert.state === "firing" ? suppression(alert) : "");
  item.dataset.suppressed = String(silenced || (alert.inhibited_by ?? []).length > 0);
  const button = item.querySelector(".silence-open");
  button.hidden = alert.state !== "firing" || silenced;
  button.setAttribute("aria-label", `Silence ${alert.name}`);
  if (button.hidden && item.querySelector(".silence-form")) closeForm(item);
}

function closeForm(item) {
  item.querySelector(".silence-form")?.remove();
  item.querySelector(".silence-open").setAttribute("aria-expanded", "false");
}

function field(text, input) {
  const label = make("label", "", text);
  label.append(input);
  return label;
}

function openForm(item, body) {
  const form = make("form", "silence-form");
  const duration = make("select");
  for (const [text, seconds] of DURATIONS) {
    const option = make("option", "", text);
    option.value = String(seconds);
    option.selected = seconds === 2 * HOUR_S;
    duration.append(option);
  }
  const comment = make("input");
  comment.maxLength = 500;
  comment.placeholder = "Why";
  const send = make("button", "button small", "Silence");
  const cancel = make("button", "button small", "Cancel");
  cancel.type = "button";
  const failure = make("p", "silence-error");
  failure.setAttribute("role", "alert");
  form.append(field("For", duration), field("Comment", comment), send, cancel, failure);
  cancel.addEventListener("click", () => {
    closeForm(item);
    item.querySelector(".silence-open").focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    const now = Date.now();
    const matchers = Object.entries(item.labels).map(([name, value]) => ({ name, value, isRegex: false, isEqual: true }));
    const silence = { matchers, startsAt: new Date(now).toISOString(), endsAt: new Date(now + Number(duration.value) * 1000).toISOString(), createdBy: "page", comment: comment.value.trim() };
    try {
      await change("POST", "silences", silence);
      closeForm(item);
    } catch (error) {
      setText(failure, `It was not silenced: ${error.message}`);
    } finally {
      send.disabled = false;
    }
  });
  body.append(form);
  item.querySelector(".silence-open").setAttribute("aria-expanded", "true");
  comment.focus();
}

// ---- the list --------------------------------------------------------------------------------------------------------

function createSilence() {
  const row = make("li", "silence");
  const body = make("div");
  body.append(make("div", "labels"), make("div", "silence-why"), make("p", "silence-error"));
  const end = make("button", "button small", "Expire");
  end.type = "button";
  end.addEventListener("click", async () => {
    end.disabled = true;
    try {
      await change("DELETE", `silence/${row.dataset.key}`);
      row.remove();
    } catch (error) {
      setText(row.querySelector(".silence-error"), `It was not expired: ${error.message}`);
    } finally {
      end.disabled = false;
    }
  });
  row.append(body, end);
  return row;
}

const operator = (matcher) => (matcher.isEqual === false ? "!" : "=") + (matcher.isRegex ? "~" : matcher.isEqual === false ? "=" : "");

function updateSilence(row, silence) {
  row.dataset.state = silence.status.state;
  const matchers = silence.matchers.map((matcher) => `${matcher.name}${operator(matcher)}"${matcher.value}"`);
  keyed(row.querySelector(".labels"), matchers, (text) => text, () => make("span", "label"), setText);
  const pending = silence.status.state === "pending" ? `from ${until(silence.startsAt)} ` : "";
  const text = [`${pending}until ${until(silence.endsAt)}, by ${silence.createdBy || "somebody"}`, quoted(silence.comment)].filter(Boolean).join(", ");
  setText(row.querySelector(".silence-why"), text.charAt(0).toUpperCase() + text.slice(1));
  const end = row.querySelector("button");
  // What stands in the configuration ends with its entry there.
  end.hidden = silence.createdBy === "configuration";
  end.setAttribute("aria-label", `Expire the silence of ${matchers.join(", ")}`);
}

/** Reads the silences that hold or will hold, and shows them. */
export async function readSilences() {
  const answer = await fetch("/api/v2/silences", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) return;
  const silences = (await answer.json()).filter((silence) => silence.status.state !== "expired");
  $("silences-card").hidden = silences.length === 0;
  const active = silences.filter((silence) => silence.status.state === "active").length;
  setText($("silences-note"), [active ? `${active} active` : "", silences.length > active ? `${silences.length - active} to come` : ""].filter(Boolean).join(", "));
  keyed($("silences"), silences, (silence) => silence.id, createSilence, updateSilence);
}
