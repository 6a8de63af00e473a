# got_train on NVIDIA GPUs, on Paddle's published image: docker build -f docker/gpu.Dockerfile -t got_train:gpu .
FROM paddlepaddle/paddle:3.3.0-gpu-cuda12.6-cudnn9.5

WORKDIR /got_train
COPY pyproject.toml README.md LICENSE ./
COPY got_train got_train
COPY data_tools data_tools
COPY configs configs
COPY train.py infer.py ./
# no extra cpu: the image has paddlepaddle-gpu, which nothing here may replace
RUN pip install --no-cache-dir -e ".[app,pdf]" && python -c "import paddle; assert paddle.is_compiled_with_cuda()"

ENV HOME=/tmp
ENTRYPOINT ["got"]
CMD ["--help"]
