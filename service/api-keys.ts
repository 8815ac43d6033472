import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ProblemError } from '../contract/problems.js';
import type { Role } from '../contract/roles.js';
import { type ApiKeyRow, findApiKey, insertApiKey, listApiKeys, noteApiKeyUse, revokeApiKey } from '../db/api-keys.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { createVerdicts } from './verdicts.js';

/** `orc_<id>_<secret>`: 12 hexadecimal digits that may be shown, and 32 random bytes as 43 characters of base64url. */
const keyForm = /^orc_([0-9a-f]{12})_[A-Za-z0-9_-]{43}$/;
/** Stands in for the hash of a key that is not there, so that refusing takes the same steps. */
const noHash = Buffer.alloc(32);
const noId = '0'.repeat(12);

export interface NewKeyRequest {
  readonly name: string;
  readonly userId: string;
  readonly role: Role;
  readonly expiresAt: Date | null;
}

export interface ApiKeyUseCases {
  /** @returns the key, which is shown this once and stored nowhere, and its id */
  createKey(request: NewKeyRequest): Promise<{ id: string; key: string }>;
  /** Keys of the caller, those of everybody for an administrator; never the keys themselves. */
  listKeys(caller: Caller): Promise<ApiKeyRow[]>;
  /** Makes a key void: at once here, within 5 s in other processes. @throws {ProblemError} not_found */
  revokeKey(id: string): Promise<void>;
  /** Who presents this key; null when it is none, void or expired. */
  verifyKey(text: string): Promise<Caller | null>;
  /**
   * Sees to it that `<home>/admin.key` (mode 0600) holds a valid key of the first administrator: a key that the database lost is
   * entered again, a missing or void one is replaced.
   * @returns path of the file
   */
  ensureAdminKey(home: string): Promise<string>;
}

export function apiKeyUseCases({ sql, log }: Pick<ServiceDeps, 'sql' | 'log'>): ApiKeyUseCases {
  const verdicts = createVerdicts<Caller>();

  async function store(key: string, request: NewKeyRequest): Promise<void> {
    await insertApiKey(sql, {
      id: idOf(key) ?? noId,
      name: request.name,
      userId: request.userId,
      role: request.role,
      hash: hashOf(key),
      expiresAt: request.expiresAt,
    });
  }

  async function verify(text: string): Promise<Caller | null> {
    const hash = hashOf(text);
    const id = idOf(text);
    const found = await findApiKey(sql, id ?? noId);
    const same = timingSafeEqual(hash, found?.hash ?? noHash);
    if (id === null || found === null || !same || !found.valid) return null;
    return { userId: found.userId, role: found.role, keyId: found.id };
  }

  return {
    async createKey(request) {
      const key = newKey();
      await store(key, request);
      return { id: idOf(key) ?? noId, key };
    },
    async listKeys(caller) {
      return listApiKeys(sql, ownerOf(caller));
    },
    async revokeKey(id) {
      if (!(await revokeApiKey(sql, id))) throw new ProblemError('not_found', 'There is no API key with this id.');
      verdicts.forget(({ keyId }) => keyId === id);
    },
    async verifyKey(text) {
      // Neither an endless header nor the key itself is kept: the cache knows keys by hash.
      const presented = text.length <= 200 ? text : '';
      const hash = hashOf(presented);
      const known = verdicts.get(hash);
      if (known !== undefined) return known;
      const caller = await verify(presented);
      if (caller === null) return null;
      verdicts.keep(hash, caller);
      noteApiKeyUse(sql, caller.keyId).catch((error: unknown) => log.warn({ err: error, key_id: caller.keyId }, 'use of a key not noted'));
      return caller;
    },
    async ensureAdminKey(home) {
      const file = path.join(home, 'admin.key');
      const admin: NewKeyRequest = { name: 'first administrator', userId: 'admin', role: 'admin', expiresAt: null };
      const present = await readKey(file);
      if (present !== null) {
        await store(present, admin);
        if ((await verify(present))?.role === 'admin') return file;
      }
      const key = newKey();
      await mkdir(home, { recursive: true });
      const temporary = `${file}.${process.pid}`;
      await writeFile(temporary, `${key}\n`, { mode: 0o600, flag: 'w' });
      await rename(temporary, file);
      await store(key, admin);
      return file;
    },
  };
}

function newKey(): string {
  return `orc_${randomBytes(6).toString('hex')}_${randomBytes(32).toString('base64url')}`;
}

function idOf(key: string): string | null {
  return keyForm.exec(key)?.[1] ?? null;
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

async function readKey(file: string): Promise<string | null> {
  try {
    const text = (await readFile(file, 'utf8')).trim();
    return idOf(text) === null ? null : text;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
