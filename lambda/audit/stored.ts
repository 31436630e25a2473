import type { Stored } from '../plan/choose-snapshot';
import { backupIdBefore, backupIdOf } from '../shared/backup-id';
import { inParallel } from '../shared/in-parallel';
import { type Retention, RETENTIONS } from '../shared/retention';
import {
  getRetentionTag,
  httpStatus,
  listVersions,
  type ObjectVersion,
  type Store,
  type VersionId,
} from '../shared/store';
import { backupIdOfSnapshot } from '../verify/event';
import { listReceiptIds } from '../verify/previous-receipt';

/**
 * What one run leaves to the next in the same execution environment, so that not every tag and every page of receipts is read every five
 * minutes. Without it a run reads all. What is remembered is what does not change by itself: a class in a tag, and that an old backup has a
 * receipt.
 */
export interface Memory {
  readAt: Date | undefined;
  /** Receipts with later ids are listed anew each time. */
  receiptsAfter: string;
  olderReceipts: readonly string[];
  readonly classes: Map<string, Retention>;
}

/** A memory that knows nothing. */
export function emptyMemory(): Memory {
  return { readAt: undefined, receiptsAfter: '', olderReceipts: [], classes: new Map() };
}

const MEMORY_HOURS = 6;
const HOUR_SECONDS = 60 * 60;
const RECENT_SECONDS = 48 * HOUR_SECONDS;

/** A stored version of a snapshot. */
export interface Held {
  readonly backupId: string;
  readonly version: ObjectVersion;
  /** Undefined: none, or one that nobody here writes. */
  readonly tag: Retention | undefined;
  /** Whether its backup has a receipt, trusted or not. */
  readonly hasReceipt: boolean;
}

/** All versions of snapshots, and which backups have a receipt, as far back as there are snapshots. */
export async function listStored(store: Store, memory: Memory, now: Date): Promise<Stored> {
  forget(memory, now);
  const snapshots = await listVersions(store, 'snapshots/');
  if (memory.readAt === undefined) {
    const oldest = snapshots.versions.map(({ key }) => backupIdOfSnapshot(key)).find((id) => id !== undefined);
    const ids = oldest === undefined ? [] : await listReceiptIds(store, justBefore(oldest));
    memory.receiptsAfter = backupIdBefore(backupIdOf(now), RECENT_SECONDS);
    memory.olderReceipts = ids.filter((id) => id <= memory.receiptsAfter);
    memory.readAt = now;
    return { snapshots, withReceipt: new Set(ids) };
  }
  const recent = await listReceiptIds(store, memory.receiptsAfter);
  return { snapshots, withReceipt: new Set([...memory.olderReceipts, ...recent]) };
}

/** What sorts before this id and after every earlier one, also where it names no time that could be counted back from. */
export function justBefore(backupId: string): string {
  return backupId.slice(0, -1);
}

function forget(memory: Memory, now: Date): void {
  const age = memory.readAt === undefined ? 0 : now.getTime() - memory.readAt.getTime();
  // Also when the clock was set back.
  if (age < 0 || age >= MEMORY_HOURS * HOUR_SECONDS * 1000) {
    Object.assign(memory, emptyMemory(), { classes: memory.classes });
    memory.classes.clear();
  }
}

/** The tag of each version. One that has expired since it was listed is left out. */
export async function readHeld(store: Store, { snapshots, withReceipt }: Stored, memory: Memory): Promise<Held[]> {
  const held = await inParallel(snapshots.versions, async (version): Promise<Held[]> => {
    const backupId = backupIdOfSnapshot(version.key);
    if (backupId === undefined) {
      return [];
    }
    try {
      const tag = await readTag(store, version, memory);
      return [{ backupId, version, tag, hasReceipt: withReceipt.has(backupId) }];
    } catch (error) {
      if (error instanceof Error && httpStatus(error.cause) === 404) {
        return [];
      }
      throw error;
    }
  });
  return held.flat();
}

async function readTag(store: Store, version: ObjectVersion, { classes }: Memory): Promise<Retention | undefined> {
  const known = classes.get(nameOf(version));
  if (known !== undefined) {
    return known;
  }
  const value = await getRetentionTag(store, version);
  const tag = RETENTIONS.find((retention) => retention === value);
  if (tag !== undefined && !CHANGING.includes(tag)) {
    classes.set(nameOf(version), tag);
  }
  return tag;
}

const CHANGING: readonly Retention[] = ['pending', 'failed', 'latest'];

function nameOf({ key, versionId }: VersionId): string {
  return `${key} ${versionId}`;
}

/** How many versions carry each value of the tag. */
export function countByTag(held: readonly Held[]): Readonly<Record<Retention, number>> {
  const count = (retention: Retention) => held.filter(({ tag }) => tag === retention).length;
  return Object.fromEntries(RETENTIONS.map((retention) => [retention, count(retention)])) as Record<Retention, number>;
}

const GRACE_MILLISECONDS = HOUR_SECONDS * 1000;

/**
 * What should have been verified by now, an hour after it was stored: what was never looked at, and what carries a class and has no receipt
 * any more. Not what is `failed`: that was looked at, and its alarm has rung.
 */
export function unverified(held: readonly Held[], now: Date): Held[] {
  return held.filter(
    ({ version, tag, hasReceipt }) =>
      isOver(version.storedAt, now) && (tag === undefined || tag === 'pending' || (tag !== 'failed' && !hasReceipt)),
  );
}

/**
 * What carries `latest` beside the newest verified backup, and the newest when it does not carry it: what a run of verify that died between
 * two tags left behind. Each an hour after it was stored itself: the newest one is rarely as old as that. A run of verify that is just about to
 * write those tags is no matter: another one writes the same.
 */
export function unsettled(held: readonly Held[], newest: VersionId | undefined, now: Date): Held[] {
  const own = held.find(({ version }) => newest?.key === version.key && newest.versionId === version.versionId);
  if (own === undefined) {
    return [];
  }
  return held.filter(
    (one) => isOver(one.version.storedAt, now) && (one === own ? one.tag !== 'latest' : one.tag === 'latest'),
  );
}

function isOver(storedAt: Date, now: Date): boolean {
  return now.getTime() - storedAt.getTime() > GRACE_MILLISECONDS;
}
