import { PutObjectCommand } from '@aws-sdk/client-s3';
import { headObject, listKeys, putNew } from '../../../lambda/shared/store';
import { HeadObjectCommand } from '@aws-sdk/client-s3';
import { Cloud } from '../backup/cloud';

const answer = (httpStatusCode: number, name: string) =>
  Object.assign(new Error(`${name} it is`), { name, $metadata: { httpStatusCode } });

test('tries again while another conditional write of the key is under way', async () => {
  const cloud = new Cloud();
  cloud.s3Mock
    .on(PutObjectCommand)
    .rejectsOnce(answer(409, 'ConditionalRequestConflict'))
    .rejects(answer(412, 'PreconditionFailed'));
  const before = cloud.time.now().getTime();
  const { store } = cloud.deps;
  await expect(
    cloud.time.run(() => putNew(store, { key: 'announcements/a', body: Buffer.from('x') })),
  ).resolves.toEqual([{ status: 'fulfilled', value: 'exists' }]);
  expect(cloud.time.now().getTime() - before).toBe(500);
});

test('throws what S3 said when it refuses a write', async () => {
  const cloud = new Cloud();
  cloud.s3Mock.on(PutObjectCommand).rejects(answer(403, 'AccessDenied'));
  await expect(putNew(cloud.deps.store, { key: 'announcements/a', body: Buffer.from('x') })).rejects.toMatchObject({
    name: 'StoreError',
    message: expect.stringMatching(
      /PutObject s3:\/\/lab-backups\/announcements\/a: got AccessDenied: AccessDenied it is \(HTTP 403\), expected success; check/,
    ) as unknown,
    cause: expect.objectContaining({ name: 'AccessDenied' }) as unknown,
  });
});

test('does not take a forbidden look for an absent object', async () => {
  const cloud = new Cloud();
  cloud.s3Mock.on(HeadObjectCommand).rejects(answer(403, 'Unknown'));
  await expect(headObject(cloud.deps.store, 'snapshots/a')).rejects.toMatchObject({ name: 'StoreError' });
});

test('turns every page of a list', async () => {
  const cloud = new Cloud();
  for (let number = 0; number < 8; number++) {
    cloud.objects.set(`tools/${String(number)}`, { bytes: Buffer.alloc(0), metadata: {} });
  }
  await expect(listKeys(cloud.deps.store, 'tools/', 'tools/0')).resolves.toEqual(
    [1, 2, 3, 4, 5, 6, 7].map((n) => `tools/${String(n)}`),
  );
});
