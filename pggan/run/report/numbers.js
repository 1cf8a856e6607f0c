// How numbers are written.

const tidy = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

function plain(value, digits = 4) {
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e6 || size < 1e-3)) {
    return value.toExponential(Math.min(digits, 3) - 1).replace(/\.?0+e/, "e");
  }
  if (size >= 1e3) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return tidy(value.toPrecision(digits));
}

function bytes(value) {
  const steps = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; value >= 1000 && step < steps.length - 1; step++) value /= 1024;
  return `${plain(value, 3)} ${steps[step]}`;
}

function seconds(value) {
  if (value >= 3600) return `${plain(value / 3600, 3)} h`;
  return value >= 60 ? `${plain(value / 60, 3)} min` : `${plain(value, 3)} s`;
}

const units = { "": plain, bytes, seconds, share: (value) => `${plain(100 * value, 3)}%` };

// How the values of a chart are written: in its unit, or by name.
const writer = ({ names, unit }) => (names.length ? (value) => names[value] ?? "" : (value) => units[unit](value));
