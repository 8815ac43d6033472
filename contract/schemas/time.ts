/** What {@link isStorableTime} asks for, in words. */
export const storableTimeText = 'expected a time within the years 1 to 9999 in UTC';

const minutesOfDay = 24 * 60;

/**
 * Whether a time is one that PostgreSQL reads back. An offset leads out of the years that are written with four digits on their first and last day.
 * @param text as `z.iso.datetime` takes it: an offset is `Z` or less than a day
 */
export function isStorableTime(text: string): boolean {
  const [, date = '', hours, minutes, sign = '+', offsetHours = '0', offsetMinutes = '0'] =
    /^(\d{4}-\d\d-\d\d)T(\d\d):(\d\d).*?(?:Z|([+-])(\d\d):?(\d\d))$/.exec(text) ?? [];
  const offset = (sign === '-' ? -1 : 1) * (Number(offsetHours) * 60 + Number(offsetMinutes));
  const inUtc = Number(hours) * 60 + Number(minutes) - offset;
  return date >= '0001-01-01' && !(date === '0001-01-01' && inUtc < 0) && !(date === '9999-12-31' && inUtc >= minutesOfDay);
}
