import { pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(pbkdf2);
const digest = 'sha256';
const iterations = 100_000;
const saltBytes = 16;
const hashBytes = 32;

/** `$pbkdf2-sha256$i=<iterations>$<salt>$<hash>`, both in base64 without padding. */
const form = /^\$pbkdf2-sha256\$i=([1-9]\d{0,7})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Stands in for the hash of somebody who is not there, so that refusing takes the same steps; no password gives it. */
export const nobodysHash = phc(Buffer.alloc(saltBytes), Buffer.alloc(hashBytes));

/** A password as it is stored: PBKDF2-HMAC-SHA256 with 100,000 iterations and a random salt of 16 bytes, as text. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(saltBytes);
  return phc(salt, await derive(written(password), salt, iterations, hashBytes, digest));
}

/** Whether a password is the one of this hash; compared in constant time. @throws Error when the text is no hash that {@link hashPassword} makes */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  const [, count, salt = '', expected = ''] = form.exec(hash) ?? [];
  if (count === undefined) throw new Error('a stored password has another form than ours');
  const bytes = Buffer.from(expected, 'base64');
  return timingSafeEqual(await derive(written(password), Buffer.from(salt, 'base64'), Number(count), bytes.length, digest), bytes);
}

/** Keyboards write the same letter in different ways. */
function written(password: string): string {
  return password.normalize('NFKC');
}

function phc(salt: Buffer, hash: Buffer): string {
  const text = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');
  return `$pbkdf2-sha256$i=${iterations}$${text(salt)}$${text(hash)}`;
}
