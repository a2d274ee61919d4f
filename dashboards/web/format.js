// Numbers and times as a person reads them. Everything returns text; nothing here touches the page.

const DASH = "–";
const number = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Three significant digits or whole numbers, with k, M, G. */
export function compact(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= limit) {
      const scaled = value / (unit === "k" ? 1e3 : limit);
      return number(scaled, Math.abs(scaled) < 100 ? 1 : 0) + unit;
    }
  }
  return number(value, size === 0 || size >= 100 ? 0 : size >= 1 ? 1 : 2);
}

export const whole = (value) => (Number.isFinite(value) ? number(value, 0) : DASH);

export function share(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const percent = value * 100;
  return `${number(percent, percent === 0 || percent >= 10 ? 0 : percent >= 0.1 ? 1 : 2)} %`;
}

/** A span of time given in seconds: 340 µs, 12.4 ms, 1.52 s, 3.20 min; with `short`, 340 µs, 12 ms, 1.5 s. */
export function span(seconds, short = false) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return DASH;
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  const [factor, unit] = size < 1e-3 ? [1e6, "µs"] : size < 1 ? [1e3, "ms"] : size < 120 ? [1, "s"] : size < 7200 ? [1 / 60, "min"] : [1 / 3600, "h"];
  const scaled = seconds * factor;
  const digits = Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${number(scaled, Math.max(0, digits - (short ? 1 : 0)))} ${unit}`;
}

/** How long ago, coarse: 4 s, 3 min, 2 h 10 min, 5 d. */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return DASH;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function bytes(value) {
  if (!Number.isFinite(value)) return DASH;
  if (value < 1024) return `${value} B`;
  if (value < 1 << 20) return `${number(value / 1024, 0)} KiB`;
  return `${number(value / (1 << 20), value < 10 << 20 ? 1 : 0)} MiB`;
}

export const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");

export function clockMillis(moment) {
  const time = new Date(moment);
  return Number.isNaN(time.getTime()) ? DASH : `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

/** The value of an alert: plain, up to four significant digits. */
export function value(raw) {
  const number = Number(raw);
  if (!Number.isFinite(number)) return String(raw ?? DASH);
  const size = Math.abs(number);
  return size !== 0 && (size >= 1e7 || size < 1e-3) ? number.toExponential(2) : String(Number(number.toPrecision(4)));
}
