// Makes one call as grpcurl does: node client.js SOCKET PROTO-DIRECTORY METHOD JSON.
// It prints each answer as JSON, and ends with 64 and the code of an error.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [socket, dir, method, request] = process.argv.slice(2);
const definition = loader.loadSync('tokenprojector/v1alpha1/volumes.proto', { includeDirs: [dir], enums: String, longs: String });
const { VolumeService } = grpc.loadPackageDefinition(definition).tokenprojector.v1alpha1;
const client = new VolumeService(`unix:${socket}`, grpc.credentials.createInsecure());

const show = (answer) => console.log(JSON.stringify(answer));
const fail = (error) => {
  console.error(error.message);
  process.exit(64 + error.code);
};
const options = { deadline: Date.now() + 60_000 };

if (VolumeService.service[method].responseStream) {
  client[method](JSON.parse(request), options).on('data', show).on('error', fail);
} else {
  client[method](JSON.parse(request), options, (error, answer) => {
    if (error) fail(error);
    show(answer);
    client.close();
  });
}
