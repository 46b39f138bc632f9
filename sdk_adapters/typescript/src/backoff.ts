/** When to try again: exponential backoff with full jitter, for a bounded time. */
export interface ReconnectPolicy {
  /** Milliseconds without success after which the connection is given up. The service keeps a session about as long. */
  readonly window: number;
  /** Milliseconds of the first wait, at most. */
  readonly first: number;
  /** Milliseconds of any wait, at most. */
  readonly longest: number;
}

export const RECONNECT: ReconnectPolicy = { window: 30_000, first: 200, longest: 3_000 };

/**
 * Returns the milliseconds to wait before a try.
 *
 * @param attempt Tries that failed, from 1.
 * @param random A number from 0 to 1.
 * @param asked Seconds that the service asked for; never waited less.
 */
export function backoff(policy: ReconnectPolicy, attempt: number, random: number, asked: number | null = null): number {
  const ceiling = Math.min(policy.longest, policy.first * 2 ** Math.min(attempt - 1, 16));
  return Math.max(random * ceiling, (asked ?? 0) * 1000);
}
