import { readEvent as readEventOf } from '../../../lambda/verify/event';
import { objectCreated } from './world';

const readEvent = (event: unknown) => readEventOf(event, 'lab-backups');
const key = 'snapshots/20261120T140000Z.db.zst';

test.each([key, 'snapshots/20261120T140000Z.db.gz'])("S3's event for %s asks for that version", (objectKey) => {
  expect(readEvent(objectCreated({ key: objectKey, versionId: 'v1' }))).toEqual({
    backupId: '20261120T140000Z',
    version: { key: objectKey, versionId: 'v1' },
  });
});

test('an id asks for a backup whatever its versions', () => {
  expect(readEvent({ backupId: '20261120T140000Z' })).toEqual({ backupId: '20261120T140000Z' });
});

const noKey = 'expected the key of a snapshot such as snapshots/20261120T140000Z.db.zst';

test.each<[unknown, string[]]>([
  [null, ['value: got null, expected an object']],
  [{}, ['backupId: got nothing, expected a backup id such as 20261120T140000Z']],
  [{ backupId: 'x' }, ['backupId: got "x", expected a backup id such as 20261120T140000Z']],
  [
    { backupId: '20261120T140000Z', force: true },
    ['force: got a field that is not known here, expected none but the documented ones'],
  ],
  [
    { source: 'aws.ec2', 'detail-type': 'Object Deleted', detail: { bucket: {}, object: { key: 'x' } } },
    [
      `source: got "aws.ec2", expected 'aws.s3'`,
      `detail-type: got "Object Deleted", expected 'Object Created'`,
      `detail.bucket.name: got nothing, expected a bucket's name`,
      `detail.object.key: got "x", ${noKey}`,
      'detail.object.version-id: got nothing, expected the id of a version',
    ],
  ],
  [
    objectCreated({ key: 'snapshots/../20261120T140000Z.db.zst', versionId: 'v' }),
    [`detail.object.key: got "snapshots/../20261120T140000Z.db.zst", ${noKey}`],
  ],
  // Signed under such an id, its receipt would be one that nobody can place in time.
  [
    objectCreated({ key: 'snapshots/20261320T140000Z.db.zst', versionId: 'v' }),
    [`detail.object.key: got "snapshots/20261320T140000Z.db.zst", ${noKey}`],
  ],
  [
    { backupId: '20260231T000000Z' },
    ['backupId: got "20260231T000000Z", expected a backup id such as 20261120T140000Z'],
  ],
])('throws with every problem of %j at once', (event, problems) => {
  expect(() => readEvent(event)).toThrow(expect.objectContaining({ name: 'EventError', problems }) as Error);
});

test("refuses another bucket's event, and says what may be sent", () => {
  expect(() => readEventOf(objectCreated({ key, versionId: 'v1' }), 'mine')).toThrow(
    /detail\.bucket\.name: got "lab-backups", expected "mine"; send \{"backupId": /,
  );
});
