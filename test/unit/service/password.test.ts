import { expect, test } from 'vitest';
import { hashPassword, nobodysHash, verifyPassword } from '../../../service/password.js';

const text = (hex: string) => Buffer.from(hex, 'hex').toString('base64').replace(/=+$/, '');
const salted = (salt: string) => Buffer.from(salt).toString('base64').replace(/=+$/, '');

// RFC 7914, section 11
test.each([
  ['passwd', 'salt', 1, '55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783'],
  [
    'Password',
    'NaCl',
    80_000,
    '4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d',
  ],
])('PBKDF2-HMAC-SHA256 of %s with the salt %s gives what RFC 7914 says [SEC-04]', async (password, salt, iterations, hex) => {
  const hash = `$pbkdf2-sha256$i=${iterations}$${salted(salt)}$${text(hex)}`;
  expect(await verifyPassword(password, hash)).toBe(true);
  expect(await verifyPassword(`${password}x`, hash)).toBe(false);
  expect(await verifyPassword(password, hash.replace('i=', 'i=1'))).toBe(false);
});

test('a password is stored with 100,000 iterations and 16 random bytes of salt, so that the same one never looks the same [SEC-04, C14]', async () => {
  const [first, second] = [await hashPassword('correct horse'), await hashPassword('correct horse')];
  const [, name, iterations, salt = '', hash = ''] = first.split('$');
  expect([name, iterations]).toEqual(['pbkdf2-sha256', 'i=100000']);
  expect([Buffer.from(salt, 'base64').length, Buffer.from(hash, 'base64').length]).toEqual([16, 32]);
  expect(second.split('$')[3]).not.toBe(salt);
  for (const stored of [first, second]) {
    expect(await verifyPassword('correct horse', stored)).toBe(true);
    for (const wrong of ['Correct horse', 'correct horse ', '']) expect(await verifyPassword(wrong, stored)).toBe(false);
  }
});

test('a letter is the same however a keyboard composes it [SEC-04]', async () => {
  expect(await verifyPassword('Pru\u0308fung', await hashPassword('Pr\u00fcfung'))).toBe(true);
});

test('nobody has the password that stands in for a user who is not there, and it takes as many iterations [SEC-04]', async () => {
  expect(nobodysHash.split('$')[2]).toBe((await hashPassword('x')).split('$')[2]);
  for (const password of ['', 'x', '\0'.repeat(32)]) expect(await verifyPassword(password, nobodysHash)).toBe(false);
});

test.each(['', 'correct horse', '$pbkdf2-sha256$i=0$c2FsdA$aGFzaA', '$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA'])(
  'what was not stored by us is no hash: %s [SEC-04]',
  async (stored) => {
    await expect(verifyPassword('correct horse', stored)).rejects.toThrow('another form');
  },
);
