# Ray's image, which KubeRay's probes and job submission are made for, with fairpos in it; see ray.yaml.
FROM rayproject/ray:2.60.0-py311-gpu
COPY --chown=ray . /tmp/fairpos
RUN pip install --no-cache-dir --constraint /tmp/fairpos/constraints.txt '/tmp/fairpos[local,ray]'
