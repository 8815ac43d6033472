import { expect, test } from 'vitest';
import { isPublicAddress } from '../../../activities/git/public-address.js';
import { parseRepositoryAddress, redactAddress } from '../../../activities/git/repository-address.js';

const usual = ['https', 'ssh'];

test.each([
  '--upload-pack=touch /tmp/x',
  '-u',
  'ext::sh -c id',
  'EXT::sh',
  'fd::17',
  '::x',
  'file:///etc',
  '/etc/passwd',
  '../x',
  'x',
  '',
  'git://host/x',
  'http://host/x',
  'HTTP://host/x',
  'ssh://-oProxyCommand=id/x',
  'ssh://-oProxyCommand=id@host/x',
  '-oProxyCommand=id@host:x',
  'host:-x',
  'ssh://host/-x',
  'https://host/x\n--upload-pack=id',
  'https://host/a b',
  'https://host/\u0000',
  'https://host\\@evil/x',
  'https://',
  'https://host',
  'https://host/',
  'https://host/x#y',
  'ssh://user:password@host/x',
  'https://%00@host/x',
  'https://h_st/x',
  'javascript://x/y',
  `https://host/${'x'.repeat(3000)}`,
])('%j is refused as a repository [bad-31, bad-32, TPL-08]', (text) => {
  expect(() => parseRepositoryAddress(text, usual)).toThrow(expect.objectContaining({ code: 'git_url_refused', retryable: false }));
}); // prettier-ignore

test('an address is given to git without its credentials, which travel apart [bad-34]', () => {
  expect(parseRepositoryAddress('https://me:s3cret%21@Example.com:8443/a/b.git', usual)).toEqual({
    scheme: 'https',
    url: 'https://example.com:8443/a/b.git',
    host: 'example.com',
    port: '8443',
    authorization: `Basic ${Buffer.from('me:s3cret!').toString('base64')}`,
    shown: 'https://***@Example.com:8443/a/b.git',
  });
});

test('the short form of ssh counts as ssh and keeps its path', () => {
  expect(parseRepositoryAddress('git@example.com:a/b.git', usual)).toMatchObject({ scheme: 'ssh', url: 'git@example.com:a/b.git', host: 'example.com' });
  expect(() => parseRepositoryAddress('git@example.com:a/b.git', ['https'])).toThrow('"ssh" is not allowed');
});

test.each(['https://0x7f.1/x', 'https://2130706433/x', 'https://127.1/x'])('%s is read as the address it reaches [bad-33]', (text) => {
  expect(parseRepositoryAddress(text, usual).host).toBe('127.0.0.1');
});

test.each([
  '127.0.0.1',
  '10.1.2.3',
  '172.31.0.1',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
  '::1',
  '::',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  'fe80::1',
  'fd00::1',
  '64:ff9b::7f00:1',
  '2002:7f00:1::',
  '2001:db8::1',
  'name',
])('%s is not the public internet [bad-33]', (address) => {
  expect(isPublicAddress(address)).toBe(false);
});

test.each(['8.8.8.8', '140.82.121.4', '2606:4700::1111'])('%s is the public internet', (address) => {
  expect(isPublicAddress(address)).toBe(true);
});

test('no message shows what stands before the @ of a URL or in a token parameter [bad-34]', () => {
  expect(redactAddress("fatal: unable to access 'https://user:tok@en@host/x?access_token=abc&y=1': no")).toBe(
    "fatal: unable to access 'https://***@host/x?access_token=***&y=1': no",
  );
});
