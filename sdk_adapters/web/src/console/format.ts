/** Figures for people; what both pages say alike is in `../shared/format`. Pure. */

const COUNT = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** Returns "1,204". */
export function count(value: number): string {
  return COUNT.format(value);
}

/** Returns "62 %"; with a decimal below ten. */
export function percent(share: number): string {
  const value = share * 100;
  return `${value !== 0 && Math.abs(value) < 9.95 ? value.toFixed(1) : Math.round(value)} %`;
}

/** Returns for how long something has been so: "12 s", "3 min 05 s", "2 h 04 min", "4 d 3 h". */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

/** Returns the local time of day, "14:05:09.120". */
export function clock(at: number): string {
  const time = new Date(at);
  const seconds = `${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  return `${two(time.getHours())}:${two(time.getMinutes())}:${seconds}`;
}

/** Returns "1 session", "2 sessions". */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
